"""The record decoder: turns a Kafka record into a message, or into a reason to skip it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs
import orjson

from odin_ws.catalogue import (
    KeyFormat,
    Topic,
    ValueFormat,
    has_control_characters,
    is_token,
)
from odin_ws.pattern import channel_name
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.json_text import InvalidJson, load_json
from odin_ws.records import InvalidBatch, Record

__all__ = ["InvalidRecord", "RecordDecoder", "read_token", "read_value"]


class InvalidRecord(StrEnum):
    """Why a record is skipped: a label of a metric. The records after it are delivered."""

    NO_KEY = "no_key"  # no token, so no channel
    BAD_KEY = "bad_key"  # not UTF-8, empty, too long, or holding a *
    KEY_CONTROL_CHARACTERS = "key_control_characters"
    KEY_IN_QUOTES = "key_in_quotes"  # a JSON string, where the catalogue says text
    KEY_SCHEMA_PREFIX = "key_schema_prefix"  # Confluent's, where the catalogue says text or JSON
    KEY_NO_SCHEMA_PREFIX = "key_no_schema_prefix"  # none, where the catalogue says confluent
    KEY_NOT_JSON = "key_not_json"  # no JSON string, where the catalogue says JSON
    TOMBSTONE = "tombstone"  # a null value: "forget this key", for compacted topics
    TOO_LARGE = "too_large"
    VALUE_SCHEMA_PREFIX = "value_schema_prefix"  # Confluent's, where the catalogue says JSON
    VALUE_NO_SCHEMA_PREFIX = "value_no_schema_prefix"
    NOT_JSON = "not_json"  # it would break the frame of every subscriber
    NOT_AN_OBJECT = "not_an_object"
    MALFORMED_RECORD = InvalidBatch.MALFORMED_RECORD.value
    MALFORMED_BATCH = InvalidBatch.MALFORMED_BATCH.value
    BAD_COMPRESSION = InvalidBatch.BAD_COMPRESSION.value
    BATCH_TOO_LARGE = InvalidBatch.BATCH_TOO_LARGE.value
    CORRUPT_BATCH = InvalidBatch.CORRUPT_BATCH.value


# Cached names of keys: 65,536 of 20 bytes take some 15 MB, and a platform has fewer tokens.
_MAX_NAMES: Final = 1 << 16

# Longer than any token, also as a JSON string of escapes: six bytes for each of 128 characters.
_MAX_KEY_BYTES: Final = 1024

# Confluent's wire format: a zero byte, and the id of a schema in its registry, in 4 bytes.
_PREFIX_BYTES: Final = 5


class RecordDecoder:
    """Decodes the records of one topic. Keys repeat, so the channel name of a key is cached."""

    __slots__ = ("_category", "_has_prefix", "_max_bytes", "_names", "topic")

    def __init__(self, topic: Topic, max_bytes: int) -> None:
        self.topic = topic
        self._category = topic.category
        self._has_prefix = topic.value is ValueFormat.CONFLUENT_JSON
        self._max_bytes = max_bytes
        # By key: token and channel.
        self._names: dict[bytes, tuple[str, str]] = {}

    def read(self, record: Record) -> tuple[ChannelMessage, object] | InvalidRecord:
        """Return a record's message and its event type, of any JSON type; or why it is invalid."""
        if record.invalid is not None:
            return InvalidRecord(record.invalid.value)
        names = self._names.get(record.key or b"") or self._token_and_channel(record)
        # Not `isinstance(names, InvalidRecord)`: for an enum class Python first looks up
        # `__instancecheck__`, which takes longer.
        if not isinstance(names, tuple):
            return names
        if self._has_prefix and record.value is not None:
            if not _has_schema_prefix(record.value):
                return InvalidRecord.VALUE_NO_SCHEMA_PREFIX
            record = attrs.evolve(record, value=record.value[_PREFIX_BYTES:])
        content = read_value(record.value, self._max_bytes)
        if not isinstance(content, tuple):
            return content
        token, channel = names
        return ChannelMessage(record, token, self._category, channel, content[0]), content[1]

    def token(self, record: Record) -> str | InvalidRecord:
        """Return the token of a record without decoding its value."""
        if record.invalid is not None:
            return InvalidRecord(record.invalid.value)
        names = self._names.get(record.key or b"") or self._token_and_channel(record)
        return names[0] if isinstance(names, tuple) else names

    def _token_and_channel(self, record: Record) -> tuple[str, str] | InvalidRecord:
        """Return the names for a key, and keep them for later records."""
        token = read_token(record, self.topic.key)
        if isinstance(token, InvalidRecord) or record.key is None:
            return token if isinstance(token, InvalidRecord) else InvalidRecord.NO_KEY
        if len(self._names) >= _MAX_NAMES:
            self._names.clear()
        names = self._names[record.key] = token, channel_name(token, self._category)
        return names


def read_token(record: Record, written: KeyFormat = KeyFormat.TEXT) -> str | InvalidRecord:
    """Return the token of a record's key, which is in the format `written`."""
    if record.key is None:
        return InvalidRecord.NO_KEY
    text = _decode_key(record.key, written)
    return text if isinstance(text, InvalidRecord) else _check_text(text, written)


def _decode_key(key: bytes, written: KeyFormat) -> str | InvalidRecord:
    if len(key) > _MAX_KEY_BYTES:
        return InvalidRecord.BAD_KEY
    has_prefix = _has_schema_prefix(key)
    if has_prefix is not (written is KeyFormat.CONFLUENT):
        return InvalidRecord.KEY_SCHEMA_PREFIX if has_prefix else InvalidRecord.KEY_NO_SCHEMA_PREFIX
    if has_prefix:
        key = key[_PREFIX_BYTES:]
    try:
        return _json_string(key) if written is KeyFormat.JSON else key.decode()
    except UnicodeDecodeError:
        return InvalidRecord.BAD_KEY
    except InvalidJson:
        return InvalidRecord.KEY_NOT_JSON


def _check_text(text: str, written: KeyFormat) -> str | InvalidRecord:
    if has_control_characters(text):
        return InvalidRecord.KEY_CONTROL_CHARACTERS
    if not is_token(text):
        return InvalidRecord.BAD_KEY
    if written is KeyFormat.TEXT and len(text) > 1 and text[0] == text[-1] == '"':
        # The channel name would contain the quotes, and no client would subscribe to it.
        return InvalidRecord.KEY_IN_QUOTES
    return text


def _json_string(key: bytes) -> str:
    value = load_json(key)
    if not isinstance(value, str):
        msg = "no string"
        raise InvalidJson(msg)
    return value


def read_value(value: bytes | None, max_bytes: int) -> tuple[bytes, object] | InvalidRecord:
    """Return a record's value unchanged, and its event type, which may be of any JSON type."""
    if value is None:
        return InvalidRecord.TOMBSTONE
    if len(value) > max_bytes:
        return InvalidRecord.TOO_LARGE
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        try:
            event = load_json(value)
        except InvalidJson:
            has_prefix = _has_schema_prefix(value)
            return InvalidRecord.VALUE_SCHEMA_PREFIX if has_prefix else InvalidRecord.NOT_JSON
    if not isinstance(event, dict):
        return InvalidRecord.NOT_AN_OBJECT
    return value, event.get("type")


def _has_schema_prefix(data: bytes) -> bool:
    # Neither JSON nor a typed key begins with a zero byte.
    return len(data) >= _PREFIX_BYTES and data[0] == 0
