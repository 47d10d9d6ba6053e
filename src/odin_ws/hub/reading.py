"""Reading a record: the message it makes, or why it makes none."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import orjson

from odin_ws.catalogue import Topic, channel_name, is_token
from odin_ws.protocol.envelope import Message
from odin_ws.records import Record

__all__ = ["TopicReader", "Unreadable", "read_token", "read_value"]


class Unreadable(StrEnum):
    """Why a record is passed by: each reason is a metric label. None of them stops the stream."""

    NO_KEY = "no_key"  # no token, so no channel
    BAD_KEY = "bad_key"  # not UTF-8, empty, too long, or holding a *
    TOMBSTONE = "tombstone"  # a null value: "forget this key", for compacted topics
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"  # it would break the frame of every subscriber
    NOT_AN_OBJECT = "not_an_object"


# Names that are remembered: 65,536 of 20 bytes are some 15 MB, and a platform's tokens are fewer.
_MAX_NAMES: Final = 1 << 16


class TopicReader:
    """Reads the records of one topic. Keys come again and again: their names are made once."""

    __slots__ = ("_category", "_max_bytes", "_names", "topic")

    def __init__(self, topic: Topic, max_bytes: int) -> None:
        self.topic = topic
        self._category = topic.category
        self._max_bytes = max_bytes
        # By key: token and channel.
        self._names: dict[bytes, tuple[str, str]] = {}

    def read(self, record: Record) -> tuple[Message, object] | Unreadable:
        """The message a record makes, and its event type, whatever that may be."""
        names = self._names.get(record.key or b"") or self._name(record)
        # Not `isinstance(names, Unreadable)`: of an enum Python looks up first how that is asked.
        if not isinstance(names, tuple):
            return names
        content = read_value(record, self._max_bytes)
        if not isinstance(content, tuple):
            return content
        token, channel = names
        return Message(record, token, self._category, channel, content[0]), content[1]

    def _name(self, record: Record) -> tuple[str, str] | Unreadable:
        token = read_token(record)
        if isinstance(token, Unreadable) or record.key is None:
            return token if isinstance(token, Unreadable) else Unreadable.NO_KEY
        if len(self._names) >= _MAX_NAMES:
            self._names.clear()
        names = self._names[record.key] = token, channel_name(token, self._category)
        return names


def read_token(record: Record) -> str | Unreadable:
    """The record's token, from its key."""
    if record.key is None:
        return Unreadable.NO_KEY
    try:
        token = record.key.decode()
    except UnicodeDecodeError:
        return Unreadable.BAD_KEY
    return token if is_token(token) else Unreadable.BAD_KEY


def read_value(record: Record, max_bytes: int) -> tuple[bytes, object] | Unreadable:
    """The record's value as it is and its event type, whatever that may be."""
    value = record.value
    if value is None:
        return Unreadable.TOMBSTONE
    if len(value) > max_bytes:
        return Unreadable.TOO_LARGE
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Unreadable.NOT_JSON
    if not isinstance(event, dict):
        return Unreadable.NOT_AN_OBJECT
    return value, event.get("type")
