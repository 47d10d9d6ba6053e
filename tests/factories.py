"""Records and messages with usual values, so that a test names only what it is about."""

from __future__ import annotations

from odin_ws.catalogue import default_catalogue
from odin_ws.pattern import channel_name
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Record

__all__ = ["TRADE", "message", "record"]

# A record's value as the platform's publishers write it.
TRADE = b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{"price":"0.1"}}'


def record(  # noqa: PLR0913 -- a record has that many fields
    key: bytes | None = b"BTC",
    value: bytes | None = TRADE,
    *,
    topic: str = "odin.trades",
    partition: int = 0,
    offset: int = 0,
    timestamp: int = 1_767_609_600_123,
) -> Record:
    """One record."""
    return Record(topic, partition, offset, timestamp, key, value)


def message(
    token: str,
    category: str = "trade",
    value: bytes = TRADE,
    *,
    partition: int = 0,
    offset: int = 0,
) -> ChannelMessage:
    """The message of a record in that channel, in its category's topic."""
    topic = default_catalogue().categories[category].name
    one = record(token.encode(), value, topic=topic, partition=partition, offset=offset)
    return ChannelMessage(one, token, category, channel_name(token, category), value)
