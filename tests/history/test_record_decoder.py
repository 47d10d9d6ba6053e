"""A record is either readable, byte for byte, or passed by for a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import KeyFormat, Topic, ValueFormat
from odin_ws.history.record_decoder import TopicReader, Unreadable, read_token, read_value
from odin_ws.records import Undecodable
from tests.building import record

LIMIT = 1024


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, Unreadable.NO_KEY),
        (b"", Unreadable.BAD_KEY),
        (b"*", Unreadable.BAD_KEY),
        (b"BTC*", Unreadable.BAD_KEY),
        (b"\xff", Unreadable.BAD_KEY),
        (b"BTC\xc3", Unreadable.BAD_KEY),
        (b"\xed\xa0\x80", Unreadable.BAD_KEY),  # half of a surrogate pair
        (b"\x00", Unreadable.KEY_CONTROL_CHARACTERS),
        (b"\x00BTC", Unreadable.KEY_CONTROL_CHARACTERS),
        (b"BTC\n", Unreadable.KEY_CONTROL_CHARACTERS),
        (b"B\x7fTC", Unreadable.KEY_CONTROL_CHARACTERS),
        (b"B\xc2\x85TC", Unreadable.KEY_CONTROL_CHARACTERS),  # C1
        (b"\x00\x00\x00\x00\x01BTC", Unreadable.KEY_SCHEMA_PREFIX),
        (b"\x00\xff\xff\xff\xff\xff", Unreadable.KEY_SCHEMA_PREFIX),
        (b'"BTC"', Unreadable.KEY_IN_QUOTES),
        (b'""', Unreadable.KEY_IN_QUOTES),
        (b"x" * (1 << 20), Unreadable.BAD_KEY),
        (b"x" * 129, Unreadable.BAD_KEY),
        ("é".encode() * 65, Unreadable.BAD_KEY),  # 65 characters, 130 bytes
    ],
)
def test_a_key_that_is_no_token_says_why(key: bytes | None, reason: Unreadable) -> None:
    """A record without a usable key belongs to no channel, and the reason is told."""
    assert read_token(record(key)) is reason


@pytest.mark.parametrize(
    "key",
    [b"BTC", b"a.b.c", b" ", b'"', b'"BTC', b"x" * 128, "é".encode() * 64, "😀".encode()],
)
def test_a_key_that_is_a_token_is_read_as_text(key: bytes) -> None:
    """Any UTF-8 of 1 to 128 bytes without a star or control characters is a token."""
    assert read_token(record(key)) == key.decode()


@pytest.mark.parametrize(
    ("written", "key", "token"),
    [
        (KeyFormat.JSON, b'"BTC"', "BTC"),
        (KeyFormat.JSON, rb'"\u0042T\"C"', 'BT"C'),
        (KeyFormat.JSON, rb'"\"BTC\""', '"BTC"'),
        (KeyFormat.JSON, b'"' + rb"\u0041" * 128 + b'"', "A" * 128),
        (KeyFormat.JSON, b"BTC", Unreadable.KEY_NOT_JSON),
        (KeyFormat.JSON, b"7", Unreadable.KEY_NOT_JSON),
        (KeyFormat.JSON, b'{"payload":"BTC"}', Unreadable.KEY_NOT_JSON),
        (KeyFormat.JSON, b'"\xff"', Unreadable.KEY_NOT_JSON),
        (KeyFormat.JSON, b"", Unreadable.KEY_NOT_JSON),
        (KeyFormat.JSON, b'""', Unreadable.BAD_KEY),
        (KeyFormat.JSON, rb'"\ud83d"', Unreadable.BAD_KEY),
        (KeyFormat.JSON, rb'"B\nC"', Unreadable.KEY_CONTROL_CHARACTERS),
        (KeyFormat.JSON, b'\x00\x00\x00\x00\x01"BTC"', Unreadable.KEY_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01BTC", "BTC"),
        (KeyFormat.CONFLUENT, b'\x00\x00\x00\x00\x01"BTC"', '"BTC"'),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01", Unreadable.BAD_KEY),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01\x06BTC", Unreadable.KEY_CONTROL_CHARACTERS),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00", Unreadable.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"BTC", Unreadable.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"", Unreadable.KEY_NO_SCHEMA_PREFIX),
        (KeyFormat.CONFLUENT, b"\x00\x00\x00\x00\x01\xff", Unreadable.BAD_KEY),
        (KeyFormat.CONFLUENT, None, Unreadable.NO_KEY),
    ],
)
def test_a_key_is_read_as_its_topic_writes_it(
    written: KeyFormat, key: bytes | None, token: str | Unreadable
) -> None:
    """The catalogue says how; what is not so has a reason that says what is wrong."""
    assert read_token(record(key), written) == token
    reader = TopicReader(Topic("odin.trades", "trade", (), written), LIMIT)
    for _ in range(2):
        assert reader.token(record(key)) == token


def test_a_value_behind_a_schema_prefix_is_read_where_the_catalogue_says_so() -> None:
    """What is delivered is the JSON behind it; the record that was read stays as it was."""
    reader = TopicReader(Topic("odin.trades", "trade", (), value=ValueFormat.CONFLUENT_JSON), LIMIT)
    one = record(value=b'\x00\x00\x00\x00\x07{"type":"A"}')
    found = reader.read(one)
    assert isinstance(found, tuple)
    message, event = found
    assert (message.value, message.record.value, event) == (b'{"type":"A"}', b'{"type":"A"}', "A")
    assert one.value == b'\x00\x00\x00\x00\x07{"type":"A"}'
    for value, reason in {
        b'{"type":"A"}': Unreadable.VALUE_NO_SCHEMA_PREFIX,
        b"\x00\x00\x00\x00": Unreadable.VALUE_NO_SCHEMA_PREFIX,
        b"": Unreadable.VALUE_NO_SCHEMA_PREFIX,
        b"\x00\x00\x00\x00\x07": Unreadable.NOT_JSON,
        b"\x00\x00\x00\x00\x07[]": Unreadable.NOT_AN_OBJECT,
        None: Unreadable.TOMBSTONE,
    }.items():
        assert reader.read(record(value=value)) is reason


@pytest.mark.parametrize("invalid", Undecodable)
def test_bytes_that_are_no_record_have_their_reason(invalid: Undecodable) -> None:
    """Whatever else is in what stands for them."""
    one = record()
    one.invalid = invalid
    reader = TopicReader(Topic("odin.trades", "trade", ()), LIMIT)
    assert reader.read(one) is reader.token(one)
    assert reader.read(one) == invalid.value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Unreadable.TOMBSTONE),
        (b" " * (LIMIT - 1) + b"{}", Unreadable.TOO_LARGE),
        (b"", Unreadable.NOT_JSON),
        (b"{", Unreadable.NOT_JSON),
        (b"{} {}", Unreadable.NOT_JSON),
        (b'{"type":NaN}', Unreadable.NOT_JSON),
        (b'{"type":Infinity}', Unreadable.NOT_JSON),
        (b"{'type':1}", Unreadable.NOT_JSON),
        (b'{"type":"\xff"}', Unreadable.NOT_JSON),
        (b'\xef\xbb\xbf{"type":1}', Unreadable.NOT_JSON),  # a byte order mark
        (b'{"a":' * 2000, Unreadable.TOO_LARGE),
        (b"[" * LIMIT, Unreadable.NOT_JSON),
        (rb'{"x":"\ud83d","y":' + b"[" * 500 + b"]" * 480 + b"}", Unreadable.NOT_JSON),
        (rb'{"x":"\ud83d","y":NaN}', Unreadable.NOT_JSON),
        (rb'{"x":"\ud83d","y":"\x01"}', Unreadable.NOT_JSON),
        (b'{"x":1e400,"y":"\xff"}', Unreadable.NOT_JSON),
        (b'{"x":1e400,"y":01}', Unreadable.NOT_JSON),
        (b'{"x":1e400,"y":-Infinity}', Unreadable.NOT_JSON),
        (b'{"x":"\xed\xa0\xbd"}', Unreadable.NOT_JSON),
        (rb'["\ud83d"]', Unreadable.NOT_AN_OBJECT),
        (b"1e400", Unreadable.NOT_AN_OBJECT),
        (b'\x00\x00\x00\x00\x01{"type":1}', Unreadable.VALUE_SCHEMA_PREFIX),
        (b"null", Unreadable.NOT_AN_OBJECT),
        (b"[]", Unreadable.NOT_AN_OBJECT),
        (b'"text"', Unreadable.NOT_AN_OBJECT),
        (b"17", Unreadable.NOT_AN_OBJECT),
        (b"true", Unreadable.NOT_AN_OBJECT),
    ],
)
def test_a_value_that_cannot_be_sent_says_why(value: bytes | None, reason: Unreadable) -> None:
    """A value that would break a subscriber's frame, or is none, is told from a good one."""
    assert read_value(value, LIMIT) is reason


def test_a_value_of_exactly_the_limit_is_read() -> None:
    """The limit itself is still allowed."""
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
def test_any_event_type_is_read(value: bytes, event: object) -> None:
    """The type is told as it is: an unknown one, a strange one none: no reason to pass by."""
    assert read_value(value, LIMIT) == (value, event)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    ),
    st.sampled_from([None, 1, 4]),
)
def test_a_value_stays_what_it_was_byte_for_byte(content: dict[str, object], indent: int) -> None:
    """Spaces, line ends, escapes and the order of keys are the publisher's."""
    value = json.dumps(content, indent=indent).encode()
    assert read_value(value, len(value)) == (value, content.get("type"))
