"""The record decoder returns a record's value byte for byte, or the reason why it is invalid."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import KeyFormat, Topic, ValueFormat
from odin_ws.history.record_decoder import InvalidRecord, RecordDecoder, read_token, read_value
from odin_ws.records import InvalidBatch
from tests.factories import record

LIMIT = 1024


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, InvalidRecord.NO_KEY),
        (b"", InvalidRecord.BAD_KEY),
        (b"*", InvalidRecord.BAD_KEY),
        (b"BTC*", InvalidRecord.BAD_KEY),
        (b"\xff", InvalidRecord.BAD_KEY),
        (b"BTC\xc3", InvalidRecord.BAD_KEY),
        (b"\xed\xa0\x80", InvalidRecord.BAD_KEY),  # a lone surrogate
        (b"\x00", InvalidRecord.KEY_CONTROL_CHARACTERS),
        (b"\x00BTC", InvalidRecord.KEY_CONTROL_CHARACTERS),
        (b"BTC\n", InvalidRecord.KEY_CONTROL_CHARACTERS),
        (b"B\x7fTC", InvalidRecord.KEY_CONTROL_CHARACTERS),
        (b"B\xc2\x85TC", InvalidRecord.KEY_CONTROL_CHARACTERS),  # C1
        (b"\x00\x00\x00\x00\x01BTC", InvalidRecord.KEY_SCHEMA_PREFIX),
        (b"\x00\xff\xff\xff\xff\xff", InvalidRecord.KEY_SCHEMA_PREFIX),
        (b'"BTC"', InvalidRecord.KEY_IN_QUOTES),
        (b'""', InvalidRecord.KEY_IN_QUOTES),
        (b"x" * (1 << 20), InvalidRecord.BAD_KEY),
        (b"x" * 129, InvalidRecord.BAD_KEY),
        ("é".encode() * 65, InvalidRecord.BAD_KEY),  # 65 characters, 130 bytes
    ],
)
def test_invalid_key_is_rejected_with_reason(key: bytes | None, reason: InvalidRecord) -> None:
    """A record without a valid key belongs to no channel."""
    assert read_token(record(key)) is reason


@pytest.mark.parametrize(
    "key",
    [b"BTC", b"a.b.c", b" ", b'"', b'"BTC', b"x" * 128, "é".encode() * 64, "😀".encode()],
)
def test_valid_key_is_decoded_to_token(key: bytes) -> None:
    """A token is any UTF-8 of 1 to 128 bytes without `*` and control characters."""
    assert read_token(record(key)) == key.decode()


@pytest.mark.parametrize(
    ("written", "key", "token"),
    [
        (KeyFormat.JSON, b'"BTC"', "BTC"),
        (KeyFormat.JSON, rb'"\u0042T\"C"', 'BT"C'),
        (KeyFormat.JSON, rb'"\"BTC\""', '"BTC"'),
        (KeyFormat.JSON, b'"' + rb"\u0041" * 128 + b'"', "A" * 128),
        (KeyFormat.JSON, b"BTC", InvalidRecord.KEY_NOT_JSON),
        (KeyFormat.JSON, b"7", InvalidRecord.KEY_NOT_JSON),
        (KeyFormat.JSON, b'{"payload":"BTC"}', InvalidRecord.KEY_NOT_JSON),
        (KeyFormat.JSON, b'"\xff"', InvalidRecord.KEY_NOT_JSON),
        (KeyFormat.JSON, b"", InvalidRecord.KEY_NOT_JSON),
        (KeyFormat.JSON, b'""', InvalidRecord.BAD_KEY),
        (KeyFormat.JSON, rb'"\ud83d"', InvalidRecord.BAD_KEY),
        (KeyFormat.JSON, rb'"B\nC"', InvalidRecord.KEY_CONTROL_CHARACTERS),
        (KeyFormat.JSON, b'\x00\x00\x00\x00\x01"BTC"', InvalidRecord.KEY_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01BTC", "BTC"),
        (KeyFormat.CONFLUENT, b'\x00\x00\x00\x00\x01"BTC"', '"BTC"'),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01", InvalidRecord.BAD_KEY),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01\x06BTC", InvalidRecord.KEY_CONTROL_CHARACTERS),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00", InvalidRecord.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"BTC", InvalidRecord.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"", InvalidRecord.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01\xff", InvalidRecord.BAD_KEY),
        (KeyFormat.CONFLUENT, None, InvalidRecord.NO_KEY),
    ],
)
def test_key_is_decoded_in_key_format_of_topic(
    written: KeyFormat, key: bytes | None, token: str | InvalidRecord
) -> None:
    """The catalogue has the format; a key in another format is rejected with a reason."""
    assert read_token(record(key), written) == token
    reader = RecordDecoder(Topic("odin.trades", "trade", (), written), LIMIT)
    for _ in range(2):
        assert reader.token(record(key)) == token


def test_schema_prefix_of_value_is_removed_if_catalogue_has_it() -> None:
    """Clients receive the JSON after the prefix; the original record keeps its bytes."""
    reader = RecordDecoder(
        Topic("odin.trades", "trade", (), value=ValueFormat.CONFLUENT_JSON), LIMIT
    )
    one = record(value=b'\x00\x00\x00\x00\x07{"type":"A"}')
    found = reader.read(one)
    assert isinstance(found, tuple)
    message, event = found
    assert (message.value, message.record.value, event) == (b'{"type":"A"}', b'{"type":"A"}', "A")
    assert one.value == b'\x00\x00\x00\x00\x07{"type":"A"}'
    for value, reason in {
        b'{"type":"A"}': InvalidRecord.VALUE_NO_SCHEMA_PREFIX,
        b"\x00\x00\x00\x00": InvalidRecord.VALUE_NO_SCHEMA_PREFIX,
        b"": InvalidRecord.VALUE_NO_SCHEMA_PREFIX,
        b"\x00\x00\x00\x00\x07": InvalidRecord.NOT_JSON,
        b"\x00\x00\x00\x00\x07[]": InvalidRecord.NOT_AN_OBJECT,
        None: InvalidRecord.TOMBSTONE,
    }.items():
        assert reader.read(record(value=value)) is reason


@pytest.mark.parametrize("invalid", InvalidBatch)
def test_invalid_batch_is_rejected_with_its_reason(invalid: InvalidBatch) -> None:
    """Key and value of the placeholder record do not matter."""
    one = record()
    one.invalid = invalid
    reader = RecordDecoder(Topic("odin.trades", "trade", ()), LIMIT)
    assert reader.read(one) is reader.token(one)
    assert reader.read(one) == invalid.value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, InvalidRecord.TOMBSTONE),
        (b" " * (LIMIT - 1) + b"{}", InvalidRecord.TOO_LARGE),
        (b"", InvalidRecord.NOT_JSON),
        (b"{", InvalidRecord.NOT_JSON),
        (b"{} {}", InvalidRecord.NOT_JSON),
        (b'{"type":NaN}', InvalidRecord.NOT_JSON),
        (b'{"type":Infinity}', InvalidRecord.NOT_JSON),
        (b"{'type':1}", InvalidRecord.NOT_JSON),
        (b'{"type":"\xff"}', InvalidRecord.NOT_JSON),
        (b'\xef\xbb\xbf{"type":1}', InvalidRecord.NOT_JSON),  # a byte order mark
        (b'{"a":' * 2000, InvalidRecord.TOO_LARGE),
        (b"[" * LIMIT, InvalidRecord.NOT_JSON),
        (rb'{"x":"\ud83d","y":' + b"[" * 500 + b"]" * 480 + b"}", InvalidRecord.NOT_JSON),
        (rb'{"x":"\ud83d","y":NaN}', InvalidRecord.NOT_JSON),
        (rb'{"x":"\ud83d","y":"\x01"}', InvalidRecord.NOT_JSON),
        (b'{"x":1e400,"y":"\xff"}', InvalidRecord.NOT_JSON),
        (b'{"x":1e400,"y":01}', InvalidRecord.NOT_JSON),
        (b'{"x":1e400,"y":-Infinity}', InvalidRecord.NOT_JSON),
        (b'{"x":"\xed\xa0\xbd"}', InvalidRecord.NOT_JSON),
        (rb'["\ud83d"]', InvalidRecord.NOT_AN_OBJECT),
        (b"1e400", InvalidRecord.NOT_AN_OBJECT),
        (b'\x00\x00\x00\x00\x01{"type":1}', InvalidRecord.VALUE_SCHEMA_PREFIX),
        (b"null", InvalidRecord.NOT_AN_OBJECT),
        (b"[]", InvalidRecord.NOT_AN_OBJECT),
        (b'"text"', InvalidRecord.NOT_AN_OBJECT),
        (b"17", InvalidRecord.NOT_AN_OBJECT),
        (b"true", InvalidRecord.NOT_AN_OBJECT),
    ],
)
def test_invalid_value_is_rejected_with_reason(value: bytes | None, reason: InvalidRecord) -> None:
    """A value that is no JSON object would break the envelope."""
    assert read_value(value, LIMIT) is reason


def test_value_of_exactly_the_limit_is_read() -> None:
    """One byte more is TOO_LARGE."""
    value = b"{" + b" " * (LIMIT - 2) + b"}"
    assert read_value(value, LIMIT) == (value, None)


@pytest.mark.parametrize(
    ("value", "event"),
    [
        (b'{"type":"TRADE_EXECUTED"}', "TRADE_EXECUTED"),
        (b'{"type":"NEVER_HEARD_OF"}', "NEVER_HEARD_OF"),
        (b'{"type":17}', 17),
        (b'{"type":["a"]}', ["a"]),
        (b'{"type":null}', None),
        (b"{}", None),
        (rb'{"type":"A","text":"great \ud83d"}', "A"),
        (rb'{"\udfff":1,"type":"A"}', "A"),
        (rb'{"type":"\ude00\ud83d"}', "\ude00\ud83d"),
        (b'{"type":"A","x":[1e400,-1e400,0.1e999999999]}', "A"),
        (b'{"type":"A","x":' + b"9" * 900 + b"}", "A"),
        (b'{"type":"A","x":-' + b"9" * 900 + b".5}", "A"),
        (rb'{"x":"\ud83d","y":' + b"[" * 480 + b"]" * 480 + b"}", None),
    ],
)
def test_any_event_type_is_returned(value: bytes, event: object) -> None:
    """An unknown, odd or missing event type is no reason to skip the record."""
    assert read_value(value, LIMIT) == (value, event)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    ),
    st.sampled_from([None, 1, 4]),
)
def test_value_is_returned_byte_for_byte(content: dict[str, object], indent: int) -> None:
    """Spaces, line ends, escapes and the order of keys are the publisher's."""
    value = json.dumps(content, indent=indent).encode()
    assert read_value(value, len(value)) == (value, content.get("type"))
