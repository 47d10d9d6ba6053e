"""`json_text` reads and writes the JSON that RFC 8259 allows, and nothing else."""

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

# Lone surrogates included.
texts = st.text(st.characters(), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_written_value_is_read_again(value: object) -> None:
    """Lone surrogates included; an integer beyond 64 bits becomes a float."""
    written = dump_json(value)
    written.decode()  # It is UTF-8.
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
def test_text_and_bytes_are_read_alike(value: object, pretty: bool) -> None:  # noqa: FBT001
    """Records are bytes, commands are text."""
    written = json.dumps(value, indent=2 if pretty else None)
    assert load_json(written) == load_json(written.encode())


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_input_is_value_or_invalid_json(data: bytes | str) -> None:
    """Input that orjson accepts gives orjson's value."""
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
def test_valid_json_that_orjson_rejects_is_read(text: bytes, value: object) -> None:
    """RFC 8259, 8.2 and 6: lone surrogates and numbers of any size are valid."""
    assert load_json(text) == value


@pytest.mark.parametrize(
    "tail",
    [
        *("NaN", "-Infinity", "Infinity", "01", "1.", ".5", "+1", "0x1", "'a'", "[1,]", "{1:2}"),
        *('"\t"', '"\\x"', '"\\u12g4"', '"\\u+123"', '"a', "\u00a01", "1\x00", "1 2", "\ufeff1"),
        "",
    ],
)
def test_invalid_json_is_rejected_by_both_parsers(tail: str) -> None:
    """A lone surrogate or 1e400 beside it selects the second parser."""
    for text in (tail, rf'["\ud83d",{tail}]', f"[1e400,{tail}]"):
        for data in (text, text.encode()):
            with pytest.raises(InvalidJson):
                load_json(data)


@pytest.mark.parametrize("data", [b'["\\ud83d","\xff"]', b'[1e400,"\xed\xa0\xbd"]', b"[1e400]\x80"])
def test_json_that_is_not_utf8_is_invalid(data: bytes) -> None:
    """A surrogate encoded in UTF-8 is invalid UTF-8."""
    with pytest.raises(InvalidJson):
        load_json(data)


def nested(levels: int) -> bytes:
    """Return arrays and objects nested in each other, around a lone surrogate."""
    pairs = levels // 2
    return b'{"x":[' * pairs + rb'"\ud83d"' + b"]}" * pairs


def test_nesting_beyond_500_levels_is_invalid() -> None:
    """The limit does not depend on the depth of Python's stack."""
    load_json(nested(500))
    for levels in (502, 5000, 200_000):
        with pytest.raises(InvalidJson):
            load_json(nested(levels))
    # Many siblings are not deep.
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
def test_slowest_megabyte_is_read_within_3_s(text: bytes) -> None:
    """Each text is the worst case of one part of the parser."""
    began = time.process_time()
    with suppress(InvalidJson):
        load_json(text)
    # It takes 0.25 s on an idle machine; a quadratic parser would take minutes.
    assert time.process_time() - began < 3


def test_lone_surrogate_is_written_as_escape() -> None:
    """A browser reads the escape as the string that it sent; other text is not escaped."""
    assert dump_json({"id": "a\ud83d", 1: "é"}) == rb'{"id":"a\ud83d","1":"\u00e9"}'
    assert dump_json({"id": "😀", 1: "é"}) == '{"id":"😀","1":"é"}'.encode()


@given(texts)
def test_is_encodable_agrees_with_utf8_encoder(text: str) -> None:
    """Without the cost of an exception."""
    try:
        text.encode()
    except UnicodeEncodeError:
        assert not is_encodable(text)
    else:
        assert is_encodable(text)
