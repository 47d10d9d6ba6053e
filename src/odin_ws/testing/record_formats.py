"""Encodes keys and values in the formats of the catalogue."""

from __future__ import annotations

from typing import Final

import orjson

from odin_ws.catalogue import KeyFormat, ValueFormat

__all__ = ["encode_key", "encode_value", "value_prefix"]

# Confluent's wire format: a zero byte, and the id of a schema in 4 bytes. Readers without a schema
# registry accept any id.
_SCHEMA_PREFIX: Final = b"\x00" + (1).to_bytes(4, "big")


def encode_key(token: str, key_format: KeyFormat) -> bytes:
    """Return the record key of `token`."""
    match key_format:
        case KeyFormat.TEXT:
            return token.encode()
        case KeyFormat.JSON:
            return orjson.dumps(token)
        case KeyFormat.CONFLUENT:
            return _SCHEMA_PREFIX + token.encode()


def encode_value(event: dict[str, object], value_format: ValueFormat) -> bytes:
    """Return the record value that holds `event`."""
    return value_prefix(value_format) + orjson.dumps(event)


def value_prefix(value_format: ValueFormat) -> bytes:
    """Return the bytes before the JSON object of a record value."""
    match value_format:
        case ValueFormat.JSON:
            return b""
        case ValueFormat.CONFLUENT_JSON:
            return _SCHEMA_PREFIX
