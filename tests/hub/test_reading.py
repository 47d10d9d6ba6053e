"""A record is either readable, byte for byte, or passed by for a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.hub.reading import Unreadable, read_token, read_value
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
        (b"x" * 129, Unreadable.BAD_KEY),
        ("é".encode() * 65, Unreadable.BAD_KEY),  # 65 characters, 130 bytes
    ],
)
def test_a_key_that_is_no_token_says_why(key: bytes | None, reason: Unreadable) -> None:
    """A record without a usable key belongs to no channel, and the reason is told."""
    assert read_token(record(key)) is reason


@pytest.mark.parametrize(
    "key", [b"BTC", b"a.b.c", b" ", b"\x00", b"x" * 128, "é".encode() * 64, "😀".encode()]
)
def test_a_key_that_is_a_token_is_read_as_text(key: bytes) -> None:
    """Any UTF-8 of 1 to 128 bytes without a star is a token."""
    assert read_token(record(key)) == key.decode()


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
        (b"null", Unreadable.NOT_AN_OBJECT),
        (b"[]", Unreadable.NOT_AN_OBJECT),
        (b'"text"', Unreadable.NOT_AN_OBJECT),
        (b"17", Unreadable.NOT_AN_OBJECT),
        (b"true", Unreadable.NOT_AN_OBJECT),
    ],
)
def test_a_value_that_cannot_be_sent_says_why(value: bytes | None, reason: Unreadable) -> None:
    """A value that would break a subscriber's frame, or is none, is told from a good one."""
    assert read_value(record(value=value), LIMIT) is reason


def test_a_value_of_exactly_the_limit_is_read() -> None:
    """The limit itself is still allowed."""
    value = b"{" + b" " * (LIMIT - 2) + b"}"
    assert read_value(record(value=value), LIMIT) == (value, None)


@pytest.mark.parametrize(
    ("value", "event"),
    [
        (b'{"type":"TRADE_EXECUTED"}', "TRADE_EXECUTED"),
        (b'{"type":"NEVER_HEARD_OF"}', "NEVER_HEARD_OF"),
        (b'{"type":17}', 17),
        (b'{"type":["a"]}', ["a"]),
        (b'{"type":null}', None),
        (b"{}", None),
    ],
)
def test_any_event_type_is_read(value: bytes, event: object) -> None:
    """The type is told as it is: an unknown one, a strange one none: no reason to pass by."""
    assert read_value(record(value=value), LIMIT) == (value, event)


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
    assert read_value(record(value=value), len(value)) == (value, content.get("type"))
