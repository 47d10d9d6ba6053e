"""Encodes messages: the v1 and the v0 envelope around a record.

A message begins with `{"seq":n` and other fields per subscriber (`replay`, `skipped`); the rest
is the *tail* and is shared. The tail has the record's value byte for byte.
"""

from __future__ import annotations

from base64 import b64encode
from enum import IntEnum

import orjson

from odin_ws.pattern import matching_patterns
from odin_ws.records import Record, RecordHeaders

__all__ = ["ChannelMessage", "Dialect"]


class Dialect(IntEnum):
    """The envelope of a connection: `/ws?v=0` or the default."""

    V0 = 0
    V1 = 1


class ChannelMessage:
    """One record as it is sent, without the sequence number.

    `order` numbers all messages of the hub, so that messages of several subscriber sets or
    partitions can be merged in their original order.
    """

    __slots__ = ("_v0", "_v1", "category", "channel", "order", "record", "token", "value")

    def __init__(
        self, record: Record, token: str, category: str, channel: str, value: bytes
    ) -> None:
        self.record = record
        self.value = value
        self.token = token
        self.category = category
        self.channel = channel
        self.order = 0
        self._v0: bytes | None = None
        self._v1: bytes | None = None

    @property
    def patterns(self) -> tuple[str, str, str, str]:
        """The patterns whose subscribers get the message."""
        return matching_patterns(self.token, self.category)

    def tail(self, dialect: Dialect) -> bytes:
        """Return the part after the sequence number; encoded on first use."""
        if dialect is Dialect.V1:
            if self._v1 is None:
                self._v1 = _v1_tail(self)
            return self._v1
        if self._v0 is None:
            self._v0 = _v0_tail(self)
        return self._v0

    def in_batch(self, dialect: Dialect) -> bytes:
        """Return the message within a batch. Not cached: the batch is shared."""
        return _v1_in_batch(self) if dialect is Dialect.V1 else b"{" + _v0_tail(self)[1:]


def _v1_tail(message: ChannelMessage) -> bytes:
    record = message.record
    return b',"ts":%d,"type":"message","channel":%b,"pos":"%d-%d"%b,"data":%b}' % (
        record.timestamp,
        orjson.dumps(message.channel),
        record.partition,
        record.offset,
        _headers(record.headers) if record.headers else b"",
        message.value,
    )


def _headers(headers: RecordHeaders) -> bytes:
    """Return the headers as an object: a value that is not UTF-8 is an object with base64."""
    fields: dict[str, object] = {}
    for name, value in headers:
        try:
            fields[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            fields[name] = {"base64": b64encode(value or b"").decode()}
    return b',"headers":%b' % orjson.dumps(fields)


def _v1_in_batch(message: ChannelMessage) -> bytes:
    record = message.record
    return b'{"channel":%b,"pos":"%d-%d","ts":%d%b,"data":%b}' % (
        orjson.dumps(message.channel),
        record.partition,
        record.offset,
        record.timestamp,
        _headers(record.headers) if record.headers else b"",
        message.value,
    )


def _v0_tail(message: ChannelMessage) -> bytes:
    # The original server used this type and priority for every message; its clients match on them.
    return b',"ts":%d,"type":"price:update","priority":1,"data":%b}' % (
        message.record.timestamp,
        message.value,
    )
