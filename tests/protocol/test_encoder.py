"""Frames written from a shared template equal frames written for one client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.deflate import Compressor
from odin_ws.protocol.encoder import BATCH_BYTES, Encoded, encode_steps, write
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.permessage_deflate import NO_WINDOW, WINDOWS
from odin_ws.protocol.wire_format import Frames, WireFormat, wire_format
from odin_ws.steps import finish
from tests.factories import message
from tests.wire_decoder import Opcode, frames

FORMS = [
    wire_format(dialect, kind, bits)
    for dialect in Dialect
    for kind in Frames
    for bits in (NO_WINDOW, *WINDOWS)
]
forms = pytest.mark.parametrize(
    "form", FORMS, ids=[f"v{form.dialect}-{form.frames}-{form.window_bits}" for form in FORMS]
)

values = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8) | st.just("%d %b %%"),
    st.text(st.characters(codec="utf-8"), max_size=80) | st.integers(),
    max_size=4,
)


def compressed(
    messages: list[ChannelMessage], form: WireFormat, *, replay: bool = False
) -> Encoded:
    """Encode with every tail compressed, if the format has compression."""
    pack = None if form.window_bits == NO_WINDOW else Compressor(form.window_bits).compress
    return finish(encode_steps(messages, form, pack, replay=replay))


def objects(data: bytes, form: WireFormat) -> list[dict[str, Any]]:
    """Return the JSON objects of the frames."""
    found = []
    for opcode, text in frames(data, max(9, form.window_bits)):
        assert opcode is Opcode.TEXT
        found.append(json.loads(text))
    return found


def expected(
    messages: list[ChannelMessage], seq: int, form: WireFormat, marks: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the objects that a client has to receive, made from the messages' tails alone."""
    singles = [json.loads(b'{"x":0' + message.tail(form.dialect)) for message in messages]
    if form.frames is Frames.SINGLE:
        many = [one | {"seq": seq + number} for number, one in enumerate(singles)]
        for number, one in enumerate(many):
            del one["x"]
            one |= {key: value for key, value in marks.items() if key == "replay" or not number}
        return many
    bodies = [{key: value for key, value in single.items() if key != "x"} for single in singles]
    if form.dialect is Dialect.V1:
        for body in bodies:
            del body["type"]
    return [{"type": "batch", "seq": seq, **marks, "messages": bodies}] if bodies else []


@forms
@given(
    contents=st.lists(values, max_size=4),
    seqs=st.lists(st.integers(1, 2**53), min_size=1, max_size=3),
    near=st.integers(0, 4),
    replay=st.booleans(),
)
def test_frames_decode_to_the_messages(
    form: WireFormat, contents: list[dict[str, Any]], seqs: list[int], near: int, *, replay: bool
) -> None:
    """For all values, and for sequence numbers of any number of digits."""
    many = [
        message("BTC", value=json.dumps(content).encode(), offset=offset)
        for offset, content in enumerate(contents)
    ]
    encoded = compressed(many, form, replay=replay)
    marks: dict[str, Any] = {"replay": True} if replay else {}
    for seq in (*seqs, max(1, 10**3 - near)):
        assert objects(encoded.frames(seq), form) == expected(many, seq, form, marks)
        alone = write(many, seq, form, replay=replay)
        assert objects(alone, form) == expected(many, seq, form, marks)
        skipped = write(many, seq, form, replay=replay, skipped=7)
        assert objects(skipped, form) == expected(many, seq, form, {"skipped": 7} | marks)


@forms
def test_format_with_compression_writes_plain_frames_without_compressor(form: WireFormat) -> None:
    """Clients of any format can read uncompressed frames."""
    many = [message("BTC", offset=offset) for offset in range(3)]
    plain = wire_format(form.dialect, form.frames)
    assert write(many, 5, form) == write(many, 5, plain)
    assert write(many, 5, form) == finish(encode_steps(many, form)).frames(5)


def test_batch_is_the_documented_text() -> None:
    """The text is what docs/protocol.md shows, byte for byte."""
    many = [message("BTC", offset=offset, value=b'{"price":"0.1"}') for offset in (7, 8)]
    ((_, text),) = frames(write(many, 41, wire_format(frames=Frames.BATCH)))
    body = '{"channel":"BTC.trade","pos":"0-%d","ts":1767609600123,"data":{"price":"0.1"}}'
    assert text == '{"type":"batch","seq":41,"messages":[' + body % 7 + "," + body % 8 + "]}"


def test_messages_beyond_batch_size_go_to_next_batch() -> None:
    """Each batch has the number of its first message and stays below the clients' size limit."""
    value = json.dumps({"x": "y" * 1000}).encode()
    many = [message("BTC", offset=offset, value=value) for offset in range(200)]
    form = wire_format(frames=Frames.BATCH, window_bits=15)
    seq = 99_990
    for data in (write(many, seq, form), compressed(many, form).frames(seq)):
        found = objects(data, form)
        assert len(found) == 200 * 1000 // BATCH_BYTES + 1
        for batch in found:
            assert batch["seq"] == seq
            assert len(json.dumps(batch)) < BATCH_BYTES + 20_000
            seq += len(batch["messages"])
        seq -= 200


def test_message_larger_than_batch_size_is_sent_alone() -> None:
    """A record of any size is delivered."""
    big = message("BTC", value=b'{"x":"%b"}' % (b"y" * 300_000))
    form = wire_format(frames=Frames.BATCH)
    sizes = [len(one["messages"]) for one in objects(write([big] * 2, 1, form), form)]
    assert sizes == [1, 1]


def test_tail_is_uncompressed_if_pack_returns_none() -> None:
    """`pack` decides for each frame."""
    many = [
        message("BTC", offset=0),
        message("BTC", offset=1, value=b'{"long":"%b"}' % (b"y" * 500)),
    ]
    form = wire_format(window_bits=15)
    compressor = Compressor(15)
    encoded = finish(
        encode_steps(
            many, form, lambda tail: compressor.compress(tail) if len(tail) > 300 else None
        )
    )
    data = encoded.frames(1)
    uncompressed = write(many[:1], 1, form)
    assert data.startswith(uncompressed)
    assert data[len(uncompressed)] == 0xC1  # RSV1: compressed
    assert [one["pos"] for one in objects(data, form)] == ["0-0", "0-1"]


def test_template_writes_sequence_numbers_of_each_client() -> None:
    """The numbers may have any number of digits."""
    many = [message("BTC", offset=offset) for offset in range(10)]
    form = wire_format(window_bits=15)
    encoded = compressed(many, form)
    for seq in (1, 5, 95, 990, 991, 10**6):
        numbers = [one["seq"] for one in objects(encoded.frames(seq), form)]
        assert numbers == list(range(seq, seq + 10))
