"""Invalid frames and the close codes for them; unusual but valid frames."""

from __future__ import annotations

import struct

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Frame, Op, RawClient, frame, request

HEARTBEAT = b'{"type":"heartbeat"}'

INVALID: dict[str, tuple[bytes, DisconnectReason]] = {
    "unmasked": (frame(Op.TEXT, HEARTBEAT, mask=False), DisconnectReason.PROTOCOL),
    "reserved bit 1": (frame(Op.TEXT, HEARTBEAT, rsv=4), DisconnectReason.PROTOCOL),
    "reserved bit 2": (frame(Op.TEXT, HEARTBEAT, rsv=2), DisconnectReason.PROTOCOL),
    "reserved bit 3": (frame(Op.TEXT, HEARTBEAT, rsv=1), DisconnectReason.PROTOCOL),
    "reserved bit of a ping": (frame(Op.PING, rsv=4), DisconnectReason.PROTOCOL),
    "unmasked ping": (frame(Op.PING, b"x", mask=False), DisconnectReason.PROTOCOL),
    "unmasked close": (frame(Op.CLOSE, b"\x03\xe8", mask=False), DisconnectReason.PROTOCOL),
    "length in more bytes than it needs": (
        struct.pack("!BBH", 0x81, 0xFE, 5) + bytes(9),
        DisconnectReason.PROTOCOL,
    ),
    "length with its first bit": (
        struct.pack("!BBQ", 0x81, 0xFF, 1 << 63),
        DisconnectReason.PROTOCOL,
    ),
    "reserved opcode": (frame(3, b"x"), DisconnectReason.PROTOCOL),
    "reserved control opcode": (frame(11), DisconnectReason.PROTOCOL),
    "cut ping": (frame(Op.PING, b"x", fin=False), DisconnectReason.PROTOCOL),
    "long ping": (frame(Op.PING, b"x" * 126), DisconnectReason.PROTOCOL),
    "continuation of nothing": (frame(Op.CONTINUATION, b"x"), DisconnectReason.PROTOCOL),
    "message within a message": (
        frame(Op.TEXT, b"{", fin=False) + frame(Op.TEXT, b"}"),
        DisconnectReason.PROTOCOL,
    ),
    "close with half a code": (frame(Op.CLOSE, b"\x03"), DisconnectReason.PROTOCOL),
    "close with a code nobody may send": (frame(Op.CLOSE, b"\x03\xee"), DisconnectReason.PROTOCOL),
    "HTTP again": (request(), DisconnectReason.PROTOCOL),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, DisconnectReason.PROTOCOL),
    "binary": (frame(Op.BINARY, HEARTBEAT), DisconnectReason.BINARY),
    "bad UTF-8": (frame(Op.TEXT, b"\xc3("), DisconnectReason.NOT_UTF8),
    "UTF-8 that ends early": (frame(Op.TEXT, b"\xc3"), DisconnectReason.NOT_UTF8),
    "bad UTF-8 in the second part": (
        frame(Op.TEXT, b'{"', fin=False) + frame(Op.CONTINUATION, b"\xff"),
        DisconnectReason.NOT_UTF8,
    ),
    "a reason that is no UTF-8": (frame(Op.CLOSE, b"\x03\xe8\xff"), DisconnectReason.NOT_UTF8),
    "half a pair in UTF-8": (frame(Op.TEXT, b'"\xed\xa0\x80"'), DisconnectReason.NOT_UTF8),
    "an exabyte": (
        struct.pack("!BBQ", 0x81, 0xFF, 1 << 60) + bytes(65_541),
        DisconnectReason.TOO_LARGE,
    ),
    "too large": (frame(Op.TEXT, b" " * 65_537), DisconnectReason.TOO_LARGE),
    "far too large": (frame(Op.TEXT, b" " * 300_000), DisconnectReason.TOO_LARGE),
}


@pytest.mark.parametrize("case", INVALID)
async def test_invalid_frame_closes_connection_with_its_code(
    odin_scenario: Scenario, case: str
) -> None:
    """The close frame has a text; the disconnect counts by its reason, not as our error."""
    data, reason = INVALID[case]
    client, other = await RawClient.open(odin_scenario), await odin_scenario.connect()
    await client.stream.send_all(data)
    code, text = await client.close_frame()
    assert code == reason.value.code
    assert text
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {reason: 1}
    assert odin_scenario.service.server.stats.errors == 0
    assert (await other.command("heartbeat"))["type"] == "pong"


async def test_responses_before_invalid_frame_are_sent_before_close(
    odin_scenario: Scenario,
) -> None:
    """Nothing follows the close frame."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(frame(Op.TEXT, HEARTBEAT) * 3 + frame(Op.TEXT, b"\xff"))
    await client.stream.send_all(frame(Op.TEXT, HEARTBEAT) * 3)
    *responses, last = await client.rest()
    assert [response.json["type"] for response in responses] == ["pong"] * 3
    assert last.close[0] == 1007


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff" * 62])
async def test_ping_is_answered_with_its_payload(odin_scenario: Scenario, payload: bytes) -> None:
    """RFC 6455, 5.5.3."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.PING, payload)
    assert await client.next() == Frame(Op.PONG, payload)


async def test_fragmented_command_with_ping_between_is_read(odin_scenario: Scenario) -> None:
    """The ping is answered before the command is complete."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.TEXT, b'{"type":"hear', fin=False)
    await client.send(Op.PING, b"now")
    assert await client.next() == Frame(Op.PONG, b"now")
    await client.send(Op.CONTINUATION, b"", fin=False)
    await client.send(Op.CONTINUATION, b'tbeat","id":1}')
    assert (await client.next()).json["id"] == 1


async def test_character_split_between_fragments_is_read(odin_scenario: Scenario) -> None:
    """Only the whole message has to be UTF-8."""
    client = await RawClient.open(odin_scenario)
    text = '{"type":"heartbeat","id":"é"}'.encode()
    cut = text.index("é".encode()) + 1
    await client.send(Op.TEXT, text[:cut], fin=False)
    await client.send(Op.CONTINUATION, text[cut:])
    assert (await client.next()).json["id"] == "é"


@pytest.mark.parametrize(
    "late",
    [
        frame(Op.PING, b"late"),
        frame(Op.TEXT, HEARTBEAT),
        frame(Op.BINARY, HEARTBEAT),
        frame(Op.TEXT, b"\xff"),
        frame(Op.TEXT, b" " * 70_000),
    ],
    ids=["ping", "command", "binary", "not UTF-8", "too large"],
)
async def test_frames_after_our_close_are_ignored(odin_scenario: Scenario, late: bytes) -> None:
    """They are neither answered nor an error, and the reason does not change."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.BINARY, b"x")
    await client.stream.send_all(late * 3)
    frames = await client.rest()
    assert [frame.op for frame in frames] == [Op.CLOSE]
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.sessions.commands == 0
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.BINARY: 1}
    assert odin_scenario.service.server.stats.errors == 0


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9away", b"\x0f\xa0mine"])
async def test_client_close_is_echoed_and_counted_as_client(
    odin_scenario: Scenario, payload: bytes
) -> None:
    """The echo has the client's code, or none; then the stream ends."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.CLOSE, payload)
    assert await client.rest() == [Frame(Op.CLOSE, payload)]
    await trio.sleep(1)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.CLIENT: 1}


async def test_frames_after_client_close_are_ignored(odin_scenario: Scenario) -> None:
    """Commands, pings and invalid frames are neither answered nor an error."""
    client = await RawClient.open(odin_scenario)
    close = frame(Op.CLOSE, b"\x03\xe8")
    late = frame(Op.TEXT, HEARTBEAT) + frame(Op.PING) + frame(3) + frame(Op.TEXT, b"\xff") + close
    await client.stream.send_all(close + late)
    assert await client.rest() == [Frame(Op.CLOSE, b"\x03\xe8")]
    await trio.sleep(1)
    stats = odin_scenario.service.server.stats
    assert (stats.sessions.commands, stats.errors) == (0, 0)
    assert stats.closed == {DisconnectReason.CLIENT: 1}


@pytest.mark.parametrize("part", [b"", frame(Op.TEXT, HEARTBEAT)[:5]], ids=["between", "within"])
async def test_stream_end_without_close_frame_is_counted_as_lost(
    odin_scenario: Scenario, part: bytes
) -> None:
    """The stream ends between two frames or within one."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(part)
    client.stream.break_off()
    await trio.sleep(1)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.LOST: 1}


async def test_half_closed_client_gets_pending_responses(
    odin_scenario: Scenario,
) -> None:
    """It sent no close frame, so it is counted as lost."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(frame(Op.TEXT, HEARTBEAT))
    await client.stream.send_eof()
    (response,) = await client.rest()
    assert response.json["type"] == "pong"
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.LOST: 1}
