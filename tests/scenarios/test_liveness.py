"""Keepalive: a client that sends nothing is closed; any byte keeps it connected."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Frame, Op, RawClient, frame

PING = Frame(Op.PING, b"")
NO_PONG = (4408, "nothing was received for too long")


async def test_silent_client_is_pinged_and_then_closed_4408(odin_scenario: Scenario) -> None:
    """A ping every 30 s; after 75 s without a byte the next ping's turn closes the connection."""
    client = await RawClient.open(odin_scenario)
    started = trio.current_time()
    frames = [await client.next()]
    while frames[-1] == PING:
        frames.append(await client.next())
    assert 75 <= trio.current_time() - started <= 105.2
    assert len(frames) in {3, 4}
    assert frames[-1].close == NO_PONG


@pytest.mark.odin_settings(ws_ping_interval_seconds=2, ws_pong_timeout_seconds=5)
async def test_ping_interval_and_pong_timeout_are_settings(odin_scenario: Scenario) -> None:
    """A ping every 2 s, the close frame after 5 to 7 s, and the abort 5 s after that."""
    client = await RawClient.open(odin_scenario)
    started = trio.current_time()
    frames = await client.rest()
    assert 10 <= trio.current_time() - started <= 12.2
    assert frames[:-1] in ([PING, PING], [PING, PING, PING])
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.NO_PONG: 1}


@pytest.mark.parametrize(
    "sent",
    [
        frame(Op.PONG),
        frame(Op.PONG, b"unasked"),
        frame(Op.PING, b"mine"),
        frame(Op.TEXT, b'{"type":"heartbeat"}'),
        frame(Op.TEXT, b"nonsense"),
    ],
    ids=["pong", "unasked pong", "ping", "command", "bad command"],
)
async def test_any_frame_keeps_client_connected(odin_scenario: Scenario, sent: bytes) -> None:
    """One frame a minute is enough."""
    client = await RawClient.open(odin_scenario)
    for _ in range(20):
        await trio.sleep(60)
        await client.stream.send_all(sent)
    assert len(odin_scenario.service.server.connections) == 1


@pytest.mark.odin_settings(ws_message_timeout_seconds=3600)
async def test_single_bytes_of_a_frame_keep_client_connected(odin_scenario: Scenario) -> None:
    """WS_MESSAGE_TIMEOUT_SECONDS limits the time of a frame; here it is an hour."""
    client = await RawClient.open(odin_scenario)
    for byte in frame(Op.PING, b"are you there"):
        await trio.sleep(50)
        await client.stream.send_all(bytes((byte,)))
    await trio.sleep(1)
    await client.send(Op.CLOSE, b"\x03\xe8")
    *rest, last = await client.rest()
    assert last.op is Op.CLOSE
    assert [one.payload for one in rest if one.op is Op.PONG] == [b"are you there"]


async def test_client_that_only_receives_is_closed(odin_scenario: Scenario) -> None:
    """It reads all messages, but sends no byte."""
    client = await RawClient.open(odin_scenario)
    await client.subscribe("BTC.trade")
    for _ in range(120):
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(1)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.NO_PONG: 1}
    assert await client.close_frame() == NO_PONG


@pytest.mark.odin_settings(ws_ping_interval_seconds=30)
async def test_pings_are_spread_over_the_interval(odin_scenario: Scenario) -> None:
    """120 clients that connect together are not pinged together."""
    clients = [await RawClient.open(odin_scenario) for _ in range(120)]
    times = set()

    async def wait_for_ping(client: RawClient) -> None:
        assert await client.next() == PING
        times.add(trio.current_time())

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(wait_for_ping, client)
    assert len(times) == 120
    assert max(times) - min(times) < 30


async def test_client_whose_command_waits_for_the_read_scheduler_is_not_closed(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a crowd the server does not read it meanwhile: its pongs are there, but not received."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        await trio.sleep(60)

    monkeypatch.setattr(odin_scenario.service.server.scans, "wait_for_work_slice", turn)
    client = await RawClient.open(odin_scenario)
    names = [f"T{number}.trade" for number in range(1000)]
    await client.command("subscribe", channels=names)
    while (received := await client.next()).op is Op.PING:
        await client.send(Op.PONG)
    assert received.json["type"] == "subscription_ack"
    assert turns * 60 > 100
    # Its time begins anew, and ends.
    frames = [one for one in await client.rest() if one != PING]
    assert [frame.close for frame in frames] == [NO_PONG]
