"""The items that the client yields: messages, acks, feed changes, disconnects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from odin_ws_client.core.batch_text import BatchText
from odin_ws_client.core.errors import RejectedName

__all__ = [
    "Checkpoint",
    "Disconnected",
    "FeedChange",
    "Ids",
    "Item",
    "Lost",
    "Message",
    "Positions",
    "Resumed",
    "Subscribed",
    "Unsubscribed",
]

# `{topic: {partition: offset}}`
Positions = Mapping[str, Mapping[int, int]]

# `{topic: id}`
Ids = Mapping[str, str]

# `{topic: {partition: (first, last)}}`, both included.
Lost = Mapping[str, Mapping[int, tuple[int, int]]]


@attrs.define(frozen=False, eq=False)  # not frozen: a frozen class takes 4 times as long to make
class Message:
    """A Kafka record."""

    channel: str
    """The channel, `{token}.{category}`."""
    topic: str
    """The record's topic."""
    partition: int
    """The record's partition."""
    offset: int
    """The record's offset."""
    timestamp: int
    """The record's Kafka timestamp, epoch ms."""
    seq: int
    """The sequence number of the message in its connection, from 1."""
    replay: bool
    """True if the record was published before its subscription was live."""
    skipped: int
    """The messages replaced by newer ones between the previous message and this message."""
    data: Any
    """The record's value."""
    _source: bytes | bytearray | BatchText = attrs.field(repr=False)
    ahead: bool = False
    """True if an older record of the partition is held back by `max_rate`.

    Positions then stay before the older record.
    """
    headers: Mapping[str, Any] | None = None
    """The record headers that the server sends, if any."""

    @property
    def text(self) -> str:
        """The message as JSON text, with the value as the publisher wrote it."""
        if isinstance(self._source, BatchText):
            return self._source.message(self.seq, self.skipped)
        return self._source.decode()


@attrs.frozen
class Subscribed:
    """A subscription has taken effect."""

    names: tuple[str, ...]
    """The accepted names."""
    rejected: tuple[RejectedName, ...]
    """The rejected names."""
    positions: Positions
    """The start positions: all later messages except a snapshot come after them."""
    ids: Ids = attrs.field(factory=dict)
    """The ids of the topics of `positions`."""
    replayed: int | None = 0
    """The number of replayed messages that follow; None if the number is not known yet."""


@attrs.frozen
class Resumed:
    """The client has resumed, or the server reports a loss on the live connection (no `names`)."""

    recovered: bool
    """True if no record is lost."""
    replayed: int | None
    """The number of replayed messages that follow; None if unknown, or for a later loss."""
    lost: Lost
    """The ranges of lost offsets."""
    reason: str
    """The cause of the loss; empty without a loss."""
    seconds_away: float | None
    """Seconds since the last connection ended.

    None for a later loss, and if the client was opened with positions.
    """
    names: tuple[str, ...]
    """The resumed names; empty for a later loss."""
    rejected: tuple[RejectedName, ...]
    """The rejected names."""
    positions: Positions
    """The changed positions."""
    ids: Ids = attrs.field(factory=dict)
    """The ids of the topics of `positions`."""


@attrs.frozen
class Unsubscribed:
    """Names were unsubscribed: the server sends no more of their messages."""

    names: tuple[str, ...]
    """The unsubscribed names."""
    rejected: tuple[RejectedName, ...] = ()
    """The names of the command that were not subscribed, or that the server rejected."""
    forced: bool = False
    """True if the server ended the names, because a new token does not grant them."""


@attrs.frozen
class Checkpoint:
    """Positions up to which all records have arrived; updates the client's positions."""

    positions: Positions
    """The positions."""
    ids: Ids = attrs.field(factory=dict)
    """The ids of the topics of `positions`."""
    holds: bool = False
    """True if only checkpoints update positions from here on.

    True while a replay runs beside live messages.
    """
    topics: frozenset[str] | None = None
    """The followed topics, if the positions of all other topics must be dropped."""


@attrs.frozen
class FeedChange:
    """The server has lost or regained its connection to Kafka."""

    status: str
    """Is "stalled" without Kafka, "live" with Kafka."""
    since: int | None
    """The time of the change, epoch ms."""


@attrs.frozen
class Disconnected:
    """A connection, or an attempt to connect, has ended."""

    code: int
    """The close code; 1006 without a close frame."""
    reason: str
    """The reason in the close frame, or the client's own."""
    retry_in: float | None
    """Seconds until the next attempt; None if the client does not reconnect."""


Item = Message | Subscribed | Unsubscribed | Resumed | FeedChange | Disconnected
