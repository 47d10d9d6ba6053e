"""A message is the record in an envelope: keys in documented order, the value unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.encoder import write
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.wire_format import wire_format
from tests.factories import TRADE, message, record
from tests.wire_decoder import Opcode, frames, messages

text = st.text(st.characters(codec="utf-8"), max_size=20)
tokens = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(text, values, max_size=3)
dialects = pytest.mark.parametrize("dialect", list(Dialect))


def payload(one: ChannelMessage, seq: int, dialect: Dialect) -> str:
    """Return the text of the message's frame."""
    ((opcode, content),) = frames(write([one], seq, wire_format(dialect)))
    assert opcode is Opcode.TEXT
    return str(content)


def test_v1_message_is_the_documented_text() -> None:
    """The text is what docs/protocol.md shows, byte for byte."""
    value = b'{"type":"TRADE_EXECUTED","data":{"price":"0.1"}}'
    one = ChannelMessage(
        record(b"BTC", value, partition=3, offset=1250), "BTC", "trade", "BTC.trade", value
    )
    assert payload(one, 17, Dialect.V1) == (
        '{"seq":17,"ts":1767609600123,"type":"message","channel":"BTC.trade","pos":"3-1250",'
        '"data":{"type":"TRADE_EXECUTED","data":{"price":"0.1"}}}'
    )


def test_v0_message_is_the_earlier_servers_text() -> None:
    """Clients of the earlier server compare these fields and values."""
    value = b'{"type":"TRADE_EXECUTED","data":{"price":"0.1"}}'
    one = ChannelMessage(record(b"BTC", value), "BTC", "trade", "BTC.trade", value)
    assert payload(one, 17, Dialect.V0) == (
        '{"seq":17,"ts":1767609600123,"type":"price:update","priority":1,'
        '"data":{"type":"TRADE_EXECUTED","data":{"price":"0.1"}}}'
    )


@given(
    token=tokens,
    content=objects,
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    seq=st.integers(1, 2**63),
    place=st.tuples(st.integers(0, 1000), st.integers(0, 2**63 - 1), st.integers(-1, 2**62)),
)
def test_failing_06_message_names_its_channel_and_position(  # noqa: PLR0913
    *,
    token: str,
    content: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    seq: int,
    place: tuple[int, int, int],
) -> None:
    """Tokens with quotes, control characters or any script are kept; the value does not change."""
    value = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode()
    partition, offset, timestamp = place
    one = ChannelMessage(
        record(token.encode(), value, partition=partition, offset=offset, timestamp=timestamp),
        token,
        "trade",
        f"{token}.trade",
        value,
    )
    written = payload(one, seq, Dialect.V1)
    assert json.loads(written) == {
        "seq": seq,
        "ts": timestamp,
        "type": "message",
        "channel": f"{token}.trade",
        "pos": f"{partition}-{offset}",
        "data": content,
    }
    assert list(json.loads(written)) == ["seq", "ts", "type", "channel", "pos", "data"]
    assert written.encode().endswith(b',"data":' + value + b"}")
    old = payload(one, seq, Dialect.V0)
    assert json.loads(old) == {
        "seq": seq,
        "ts": timestamp,
        "type": "price:update",
        "priority": 1,
        "data": content,
    }
    assert old.encode().endswith(b',"data":' + value + b"}")


@pytest.mark.parametrize(
    "value",
    [
        b'{"price":0.10}',
        b'{"big":12345678901234567890123456789}',
        b'{ "a" :\n\t1 }',
        b'{"a":1,"a":2}',
        b'{"e":"\\u00e9\\/"}',
        b" {} ",
    ],
)
@dialects
def test_value_is_forwarded_byte_for_byte(value: bytes, dialect: Dialect) -> None:
    """Numbers, white space and escapes stay as the publisher wrote them."""
    assert value in payload(message("BTC", value=value), 1, dialect).encode()


@given(
    st.lists(st.tuples(tokens, objects), max_size=5),
    st.integers(1, 10**6),
    st.sampled_from(list(Dialect)),
)
def test_write_of_many_messages_equals_single_writes(
    contents: list[tuple[str, dict[str, Any]]], seq: int, dialect: Dialect
) -> None:
    """The sequence numbers are consecutive."""
    many = [message(token, value=json.dumps(content).encode()) for token, content in contents]
    form = wire_format(dialect)
    together = write(many, seq, form)
    assert together == b"".join(write([one], seq + number, form) for number, one in enumerate(many))
    assert [message["seq"] for message in messages(together)] == list(range(seq, seq + len(many)))


@pytest.mark.parametrize(
    ("marks", "first", "second"),
    [
        ({}, "", ""),
        ({"replay": True}, ',"replay":true', ',"replay":true'),
        ({"skipped": 5}, ',"skipped":5', ""),
        ({"replay": True, "skipped": 5}, ',"skipped":5,"replay":true', ',"replay":true'),
    ],
    ids=["plain", "replay", "skipped", "both"],
)
@dialects
def test_replay_and_skipped_marks_follow_sequence_number(
    dialect: Dialect, marks: dict[str, Any], first: str, second: str
) -> None:
    """All messages have `replay`; only the first one has `skipped`."""
    many = [message("BTC", offset=offset) for offset in range(2)]
    data = write(many, 17, wire_format(dialect), **marks)
    texts = [str(content) for _, content in frames(data)]
    for text_, number, mark, one in zip(texts, (17, 18), (first, second), many, strict=True):
        assert text_ == f'{{"seq":{number}{mark}' + one.tail(dialect).decode()


@pytest.mark.parametrize("size", [100, 125, 126, 127, 65_400, 65_535, 65_536, 70_000])
@dialects
def test_frame_length_includes_sequence_number(size: int, dialect: Dialect) -> None:
    """The frame is valid where another digit of `seq` changes the form of the length."""
    value = b'{"x":"%b"}' % (b"y" * size)
    for seq in (9, 10, 99, 100):
        assert json.loads(payload(message("BTC", value=value), seq, dialect))["seq"] == seq


@dialects
def test_failing_28_tail_is_encoded_once_per_dialect(dialect: Dialect) -> None:
    """`tail` returns the same object to every subscriber of a dialect."""
    one = message("BTC", value=TRADE)
    assert one.tail(dialect) is one.tail(dialect)


def test_dialects_have_separate_tails() -> None:
    """Each dialect gets its own tail, in whatever order they are requested."""
    one = message("BTC")
    assert b"price:update" in one.tail(Dialect.V0)
    assert b"price:update" not in one.tail(Dialect.V1)
    assert b"price:update" in one.tail(Dialect.V0)
