"""Reading a record: the message it makes, or why it makes none."""

from __future__ import annotations

from enum import StrEnum

import orjson

from odin_ws.catalogue import Topic, is_token
from odin_ws.protocol.envelope import Message
from odin_ws.records import Record

__all__ = ["Unreadable", "read_message", "read_token", "read_value"]


class Unreadable(StrEnum):
    """Why a record is passed by: each reason is a metric label. None of them stops the stream."""

    NO_KEY = "no_key"  # no token, so no channel
    BAD_KEY = "bad_key"  # not UTF-8, empty, too long, or holding a *
    TOMBSTONE = "tombstone"  # a null value: "forget this key", for compacted topics
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"  # it would break the frame of every subscriber
    NOT_AN_OBJECT = "not_an_object"


def read_message(
    record: Record, topic: Topic, max_bytes: int
) -> tuple[Message, object] | Unreadable:
    """The message a record of `topic` makes, and its event type, whatever that may be."""
    token = read_token(record)
    if isinstance(token, Unreadable):
        return token
    content = read_value(record, max_bytes)
    if isinstance(content, Unreadable):
        return content
    value, event = content
    return Message(record, token, topic.category, value), event


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
