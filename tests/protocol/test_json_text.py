"""JSON that RFC 8259 allows is read and written, and nothing else is."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.json_text import InvalidJson, dump_json, is_encodable, load_json

# With halves of surrogate pairs.
texts = st.text(st.characters(), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_what_is_written_is_read_again(value: object) -> None:
    """Also half of a surrogate pair, and an integer of any size, which becomes a float."""
    written = dump_json(value)
    assert written.decode().isprintable() or written
    if all(abs(number) < 1 << 63 for number in _integers(value)):
        assert load_json(written) == value
    else:
        load_json(written)


def _integers(value: object) -> list[int]:
    match value:
        case bool():
            return []
        case int():
            return [value]
        case list():
            return [number for one in value for number in _integers(one)]
        case dict():
            return [number for one in value.values() for number in _integers(one)]
        case _:
            return []


@given(values, st.booleans())
def test_a_text_is_read_like_its_bytes(value: object, pretty: bool) -> None:  # noqa: FBT001
    """Records are bytes, commands are text."""
    written = json.dumps(value, indent=2 if pretty else None)
    assert load_json(written) == load_json(written.encode())


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_is_a_value_or_invalid(data: bytes | str) -> None:
    """And what orjson takes is what it was."""
    try:
        expected = orjson.loads(data)
    except orjson.JSONDecodeError:
        expected = None
    try:
        assert load_json(data) == expected or expected is None
    except InvalidJson:
        assert expected is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"great \ud83d"', "great \ud83d"),
        (rb'"\ude00\ud83d"', "\ude00\ud83d"),
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"1e-400", 0.0),
        (b"9" * 400, math.inf),
        (b"-" + b"9" * 20, -1e20),
    ],
)
def test_what_orjson_rejects_is_read(text: bytes, value: object) -> None:
    """RFC 8259, 8.2 and 6: neither text nor size of a number has a bound."""
    assert load_json(text) == value


@pytest.mark.parametrize(
    "tail",
    [
        *("NaN", "-Infinity", "Infinity", "01", "1.", ".5", "+1", "0x1", "'a'", "[1,]", "{1:2}"),
        *('"\t"', '"\\x"', '"\\u12g4"', '"\\u+123"', '"a', "\u00a01", "1\x00", "1 2", "\ufeff1"),
        "",
    ],
)
def test_what_is_not_json_stays_invalid(tail: str) -> None:
    """Beside half of a pair too, where another reader judges."""
    for text in (tail, rf'["\ud83d",{tail}]', f"[1e400,{tail}]"):
        for data in (text, text.encode()):
            with pytest.raises(InvalidJson):
                load_json(data)


@pytest.mark.parametrize("data", [b'["\\ud83d","\xff"]', b'[1e400,"\xed\xa0\xbd"]', b"[1e400]\x80"])
def test_what_is_not_utf8_stays_invalid(data: bytes) -> None:
    """Half a pair in UTF-8 is none of it."""
    with pytest.raises(InvalidJson):
        load_json(data)


def nested(levels: int) -> bytes:
    """Arrays and objects in one another, and half a pair."""
    pairs = levels // 2
    return b'{"x":[' * pairs + rb'"\ud83d"' + b"]}" * pairs


def test_nesting_has_a_bound() -> None:
    """The same for every stack; beyond it, and far beyond it, the text is invalid."""
    load_json(nested(500))
    for levels in (502, 5000, 200_000):
        with pytest.raises(InvalidJson):
            load_json(nested(levels))
    # Many beside one another are not deep.
    load_json(rb'["\ud83d"' + b",[{}]" * 2000 + b"]")


@pytest.mark.parametrize(
    "text",
    [
        b"9" * (1 << 20),
        b"0." + b"9" * (1 << 20),
        b"1e" + b"9" * (1 << 20),
        b'"' + rb"\ud800" * (1 << 17) + b'"',
        rb'["\ud800"' + b",[]" * (1 << 17) + b"]",
        b"[" * (1 << 20),
        b'"' + b'\\"' * (1 << 19),
    ],
    ids=["digits", "fraction", "exponent", "halves", "arrays", "deep", "open"],
)
def test_a_large_text_costs_no_seconds(text: bytes) -> None:
    """A megabyte of what is slowest."""
    began = time.process_time()
    with suppress(InvalidJson):
        load_json(text)
    # A quarter of a second where nothing else runs; quadratic it would be minutes.
    assert time.process_time() - began < 3


def test_half_a_pair_is_written_as_an_escape() -> None:
    """Which a browser reads as the string that it sent; all else stays as it was."""
    assert dump_json({"id": "a\ud83d", 1: "é"}) == rb'{"id":"a\ud83d","1":"\u00e9"}'
    assert dump_json({"id": "😀", 1: "é"}) == '{"id":"😀","1":"é"}'.encode()


@given(texts)
def test_encodable_is_what_utf8_can_be_made_of(text: str) -> None:
    """Without an exception to find out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        assert not is_encodable(text)
    else:
        assert is_encodable(text)
