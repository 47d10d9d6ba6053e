"""Limits on valid frames: too many, too long, or without an end."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.protocol.errors import ErrorCode
from odin_ws.session.session import SessionStats
from odin_ws.testing.scenario import Scenario
from odin_ws.time_slice import TimeSlice
from tests.scenarios.wire import Op, RawClient, frame

BEGIN = frame(Op.TEXT, b"{", fin=False)
MORE = frame(Op.CONTINUATION, b" ", fin=False)
END = frame(Op.CONTINUATION, b'"type":"heartbeat"}')


@pytest.mark.odin_settings(ws_max_fragments=4)
async def test_command_of_more_than_max_fragments_closes_1009(odin_scenario: Scenario) -> None:
    """Four frames are accepted; the fifth closes the connection."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(BEGIN + MORE * 2 + END)
    assert (await client.next()).json["type"] == "pong"
    await client.stream.send_all(BEGIN + MORE * 4)
    assert (await client.close_frame())[0] == 1009
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.TOO_LARGE: 1}


@pytest.mark.odin_settings(ws_message_timeout_seconds=3)
@pytest.mark.parametrize(
    "drop",
    [b"", MORE, frame(Op.PING), frame(Op.CONTINUATION, b" " * 50)[:1]],
    ids=["silence", "fragments", "pings", "bytes of a frame"],
)
async def test_command_that_does_not_end_closes_1008(odin_scenario: Scenario, drop: bytes) -> None:
    """The time is 3 s from its first byte, whatever arrives meanwhile."""
    client = await RawClient.open(odin_scenario)
    await trio.sleep(10)
    await client.stream.send_all(BEGIN)
    started = trio.current_time()
    await trio.sleep(1)
    await client.stream.send_all(drop)
    await trio.sleep(1)
    await client.stream.send_all(drop)
    code, text = await client.close_frame()
    assert code == 1008
    assert trio.current_time() - started == pytest.approx(3)
    assert "took too long" in text
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.UNFINISHED: 1}


@pytest.mark.odin_settings(ws_message_timeout_seconds=3)
async def test_message_timeout_begins_with_each_command(odin_scenario: Scenario) -> None:
    """The end of one command and the begin of the next may be in one packet."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(BEGIN)
    for _ in range(5):
        await trio.sleep(2)
        await client.stream.send_all(END + BEGIN)
        assert (await client.next_but_pings()).json["type"] == "pong"
    await client.stream.send_all(END)
    assert (await client.next_but_pings()).json["type"] == "pong"
    await trio.sleep(20)
    await client.command("heartbeat")
    assert (await client.next_but_pings()).json["type"] == "pong"


@pytest.mark.parametrize("op", [Op.PING, Op.CLOSE, Op.TEXT])
async def test_frame_that_does_not_become_complete_closes(odin_scenario: Scenario, op: Op) -> None:
    """Neither single bytes nor complete pings before it extend its 10 s."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(frame(Op.PING))
    await trio.sleep(5)
    begun = trio.current_time()
    with suppress(trio.BrokenResourceError):
        for byte in frame(op, b"x" * 100):
            await client.stream.send_all(bytes([byte]))
            await trio.sleep(1)
    assert trio.current_time() - begun == pytest.approx(10, abs=2)
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.UNFINISHED: 1}


@pytest.mark.odin_settings(ws_command_rate=2, ws_command_burst=5)
@pytest.mark.parametrize("op", [Op.PING, Op.PONG])
async def test_flood_of_pings_or_pongs_closes_1008(odin_scenario: Scenario, op: Op) -> None:
    """Five at once and two a second are accepted."""
    client = await RawClient.open(odin_scenario)
    for _ in range(3):
        await client.stream.send_all(frame(op, b"x") * 5)
        await trio.sleep(2.5)
    responses = [] if op is Op.PONG else [Op.PONG] * 15
    await client.stream.send_all(frame(op, b"x") * 1000)
    *frames, last = await client.rest()
    assert [frame.op for frame in frames if frame.op is not Op.PING] == responses + responses[:5]
    assert last.close == (1008, "flooding: too many commands, pings or pongs")
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.FLOODING: 1}


@pytest.mark.odin_settings(ws_command_rate=1, ws_command_burst=2)
async def test_pings_and_commands_have_separate_rates(odin_scenario: Scenario) -> None:
    """A client that pings often may still send commands."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(frame(Op.PING) * 2)
    await client.command("heartbeat")
    await client.command("heartbeat")
    frames = [await client.next() for _ in range(4)]
    assert [frame.op for frame in frames] == [Op.PONG] * 2 + [Op.TEXT] * 2
    assert [frame.json["type"] for frame in frames[2:]] == ["pong"] * 2


@pytest.mark.odin_settings(ws_command_rate=2, ws_command_burst=5)
@pytest.mark.parametrize("op", [Op.PING, Op.PONG, Op.TEXT])
async def test_client_that_sends_after_flooding_close_is_aborted_within_a_second(
    odin_scenario: Scenario, op: Op
) -> None:
    """The server does not wait for the client's close frame."""
    client = await RawClient.open(odin_scenario)
    await client.stream.send_all(frame(op, b"x") * 100)
    await client.rest()
    assert trio.current_time() < 1
    with suppress(trio.BrokenResourceError):
        while True:
            await client.stream.send_all(frame(op, b"x"))
            await trio.sleep(0.1)
    assert trio.current_time() == pytest.approx(1, abs=0.3)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.FLOODING: 1}


class _LoopPasses(trio.abc.Instrument):
    """`maximum`: the most commands that were processed in one pass of the loop."""

    def __init__(self, stats: SessionStats) -> None:
        self._stats = stats
        self._before = stats.commands
        self.maximum = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- the instrument's signature
        self.maximum = max(self.maximum, self._stats.commands - self._before)
        self._before = self._stats.commands


@pytest.mark.odin_settings(ws_command_burst=1000)
async def test_burst_of_commands_is_processed_16_per_loop_pass(odin_scenario: Scenario) -> None:
    """Other tasks run between the passes."""
    passes = _LoopPasses(odin_scenario.service.server.stats.sessions)
    client = await RawClient.open(odin_scenario)
    trio.lowlevel.add_instrument(passes)
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}') * 100)
    for _ in range(100):
        assert (await client.next()).json["type"] == "pong"
    trio.lowlevel.remove_instrument(passes)
    assert passes.maximum == 16


async def test_command_that_uses_up_its_time_slice_is_the_last_of_its_pass(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 commands of 1 ms each would delay all others by 16 ms."""
    monkeypatch.setattr(TimeSlice, "expired", property(lambda _: True))
    passes = _LoopPasses(odin_scenario.service.server.stats.sessions)
    client = await RawClient.open(odin_scenario)
    trio.lowlevel.add_instrument(passes)
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}') * 8)
    for _ in range(8):
        assert (await client.next()).json["type"] == "pong"
    trio.lowlevel.remove_instrument(passes)
    assert passes.maximum == 1


@pytest.mark.parametrize(
    "command",
    [
        b'{"type":"resume","data":{"channels":["A.trade"],"positions":{}}}',
        b'{"type":"subscribe","data":{"channels":["A.trade"],"snapshot":true}}',
        b'{"type":"subscribe","data":{"channels":["A.trade"],"since_ms":1}}',
        b'{"type":"replay","data":{"since":0}}',
        b'{"type":"reconnect","data":{"last_pos":{}}}',
        b'{"type":"auth","data":{"token":"x"}}',
    ],
    ids=["resume", "snapshot", "since_ms", "replay", "reconnect", "auth"],
)
@pytest.mark.odin_settings(ws_command_burst=100, ws_command_rate=1)
async def test_replaying_command_counts_as_five(odin_scenario: Scenario, command: bytes) -> None:
    """A burst of 100 allows 20 of them; the 21st is rejected."""
    client = await RawClient.open(odin_scenario)
    stats = odin_scenario.service.server.stats.sessions
    for _ in range(20):
        await client.stream.send_all(frame(Op.TEXT, command))
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}'))
    await trio.sleep(0.5)
    assert (stats.commands, stats.rate_limited) == (21, 1)


@pytest.mark.odin_settings(ws_command_burst=100, ws_command_rate=1)
async def test_long_command_counts_by_length(odin_scenario: Scenario) -> None:
    """A burst of 100 allows two of 50 KiB."""
    client = await RawClient.open(odin_scenario)
    stats = odin_scenario.service.server.stats.sessions
    command = b'{"type":"heartbeat"%b}' % (b" " * (50 << 10))
    await client.stream.send_all(frame(Op.TEXT, command) * 2)
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}'))
    await trio.sleep(0.5)
    assert (stats.commands, stats.rate_limited) == (3, 1)


@pytest.mark.odin_settings(ws_command_burst=100, ws_command_rate=1)
async def test_command_counts_by_its_patterns(odin_scenario: Scenario) -> None:
    """A burst of 100 allows eight short commands of 800 patterns each."""
    client = await RawClient.open(odin_scenario)
    stats = odin_scenario.service.server.stats.sessions
    data = {"bundles": ["ALL"], "tokens": [f"{n:02}" for n in range(100)]}
    command = json.dumps({"type": "subscribe", "data": data}, separators=(",", ":")).encode()
    assert len(command) < 1024
    await client.stream.send_all(frame(Op.TEXT, command) * 9)
    await trio.sleep(0.5)
    assert (stats.commands, stats.rate_limited) == (9, 1)


@pytest.mark.odin_settings(ws_command_burst=10, ws_command_rate=1)
async def test_debt_of_many_patterns_is_at_most_one_burst(odin_scenario: Scenario) -> None:
    """After the time of one burst the client may send commands again."""
    client = await RawClient.open(odin_scenario)
    data = {"topics": ["odin.trades"], "tokens": [str(number) for number in range(1024)]}
    command = json.dumps({"type": "subscribe", "data": data}).encode()
    await client.stream.send_all(frame(Op.TEXT, command))
    assert (await client.next_but_pings()).json["type"] == "subscription_ack"
    # It counted 21: 1, 10 for its length and 10 for its patterns. The burst is 10.
    await trio.sleep(12)
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}'))
    assert (await client.next_but_pings()).json["type"] == "pong"


@pytest.mark.odin_settings(ws_command_burst=100, ws_command_rate=1)
async def test_name_beyond_max_subscriptions_counts_little(
    odin_scenario: Scenario,
) -> None:
    """Its patterns are not created: a burst of 100 allows 40 such commands."""
    client = await RawClient.open(odin_scenario)
    stats = odin_scenario.service.server.stats.sessions
    data = {"bundles": ["ALL"], "tokens": [f"{n:03}" for n in range(200)]}
    command = json.dumps({"type": "subscribe", "data": data}, separators=(",", ":")).encode()
    await client.stream.send_all(frame(Op.TEXT, command) * 40)
    await trio.sleep(0.5)
    assert (stats.commands, stats.rate_limited) == (40, 0)
    assert stats.rejected_names == {ErrorCode.TOO_MANY_SUBSCRIPTIONS: 40}


async def test_rejected_names_are_counted_by_code(odin_scenario: Scenario) -> None:
    """Names of `unsubscribe` without a subscription are included."""
    client = await odin_scenario.connect()
    await client.unsubscribe(channels=["BTC.trade", "ETH.trade"])
    await client.subscribe(channels=["BTC.nothing"], topics=["odin.nothing"])
    assert odin_scenario.service.server.stats.sessions.rejected_names == {
        ErrorCode.NOT_SUBSCRIBED: 2,
        ErrorCode.INVALID_CHANNEL: 1,
        ErrorCode.UNKNOWN_TOPIC: 1,
    }


@pytest.mark.odin_settings(ws_max_message_bytes=1 << 20, ws_command_burst=10, ws_command_rate=1)
async def test_debt_of_long_command_is_at_most_one_burst(odin_scenario: Scenario) -> None:
    """After the time of one burst the client may send commands again."""
    client = await RawClient.open(odin_scenario)
    command = b'{"type":"heartbeat"%b}' % (b" " * 900_000)
    await client.stream.send_all(frame(Op.TEXT, command))
    assert (await client.next_but_pings()).json["type"] == "pong"
    await client.command("heartbeat")
    assert (await client.next_but_pings()).json["code"] == "RATE_LIMIT_EXCEEDED"
    await trio.sleep(3)
    await client.command("heartbeat")
    assert (await client.next_but_pings()).json["type"] == "pong"


@pytest.mark.odin_settings(ws_command_burst=100, ws_command_rate=1)
async def test_command_counts_by_replayed_messages(odin_scenario: Scenario) -> None:
    """A snapshot of 1,280 channels counts 5, and 10 more when it has been sent."""
    for number in range(1280):
        odin_scenario.publish(f"T{number}", "trade")
    await trio.sleep(5)
    client = await RawClient.open(odin_scenario)
    stats = odin_scenario.service.server.stats.sessions
    again = b'{"type":"subscribe","data":{"channels":["*.*"],"snapshot":true}}'
    await client.stream.send_all(frame(Op.TEXT, again))
    await trio.sleep(1)
    assert odin_scenario.service.hub.stats.messages_sent == 1280
    # 100 - 5 - 10, and 1 regained in that second, leave 86.
    await client.stream.send_all(frame(Op.TEXT, b'{"type":"heartbeat"}') * 87)
    await trio.sleep(0.5)
    assert (stats.commands, stats.rate_limited) == (88, 1)


@pytest.mark.odin_settings(ws_command_burst=10, ws_command_rate=1)
async def test_debt_of_many_messages_is_one_burst_with_retry_delay(
    odin_scenario: Scenario,
) -> None:
    """After a snapshot of 6,400 messages the client waits for the time of one burst."""
    for number in range(6400):
        odin_scenario.publish(f"T{number}", "trade")
    await trio.sleep(10)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"], snapshot=True)
    await client.messages(6400)
    rejected = await client.command("heartbeat")
    assert rejected["code"] == "RATE_LIMIT_EXCEEDED"
    assert 9000 < rejected["retry_ms"] <= 11_000
    await trio.sleep(rejected["retry_ms"] / 1000)
    assert (await client.command("heartbeat"))["type"] == "pong"
