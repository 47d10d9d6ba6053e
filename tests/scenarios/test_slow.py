"""A client that does not read is closed, alone, and told why."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Op, RawClient, texts

SLOW = (1008, "slow: messages waited too long to be taken")


async def publish_until_closing(scenario: Scenario, every: float, text: str = "") -> float:
    """Publish until somebody is being closed; returns for how long that took."""
    started = trio.current_time()
    with trio.fail_after(300):
        while not any(one.closing for one in scenario.service.server.connections):
            scenario.publish("BTC", "trade", text)
            await trio.sleep(every)
    return trio.current_time() - started


@pytest.mark.odin_settings(ws_send_queue_bytes=10_000, ws_write_timeout_seconds=3600)
async def test_more_waiting_bytes_than_the_limit_close(odin_scenario: Scenario) -> None:
    """The wire takes 1,000 bytes and the send queue some 10,000, then the client is slow."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.1, "x" * 400)
    assert 20 <= odin_scenario.service.hub.stats.messages_sent <= 30
    assert await client.close_frame() == SLOW
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.SLOW: 1}


@pytest.mark.odin_settings(ws_write_timeout_seconds=20)
async def test_bytes_that_wait_longer_than_the_grace_close(odin_scenario: Scenario) -> None:
    """However few they are: a message that nobody takes for 20 seconds is too old."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 2000)
    await trio.sleep(19)
    (connection,) = odin_scenario.service.server.connections
    assert connection.closing is None
    await trio.sleep(2)
    assert connection.closing is DisconnectReason.SLOW
    *messages, last = await client.rest()
    assert [one.op for one in messages] == [Op.TEXT]
    assert last.close == SLOW


@pytest.mark.odin_settings(ws_write_timeout_seconds=20)
async def test_a_trickle_of_reading_is_not_enough(odin_scenario: Scenario) -> None:
    """Who takes a byte every half second holds what waits for it no longer than the grace."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 2000)
    (connection,) = odin_scenario.service.server.connections
    started = trio.current_time()
    with trio.fail_after(60):
        while connection.closing is None:
            assert await client.stream.receive_some(1)
            await trio.sleep(0.5)
    assert connection.closing is DisconnectReason.SLOW
    assert 19 < trio.current_time() - started < 23


@pytest.mark.odin_settings(ws_write_timeout_seconds=20)
async def test_who_reads_slowly_but_steadily_stays(odin_scenario: Scenario) -> None:
    """Behind by less than the limits at any time, a client gets everything, however late."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    for number in range(100):
        odin_scenario.publish("BTC", "trade", [number, "x" * 3000])
    for number in range(100):
        await trio.sleep(0.15)
        message = (await client.next()).json
        assert (message["seq"], message["data"]["data"][0]) == (number + 1, number)
    assert odin_scenario.service.server.stats.closed.total() == 0


@pytest.mark.odin_settings(ws_send_queue_bytes=2000)
async def test_one_large_write_alone_makes_nobody_slow(odin_scenario: Scenario) -> None:
    """A message of ten times the limit reaches a client that reads."""
    client = await RawClient.open(odin_scenario, capacity=500)
    await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 20_000)
    assert len((await client.next()).payload) > 20_000
    odin_scenario.publish("BTC", "trade", "after")
    assert (await client.next()).json["data"]["data"] == "after"


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_answers_count_against_the_limit_too(odin_scenario: Scenario) -> None:
    """Who asks and never reads the answers is closed as well: memory is bounded either way."""
    client = await RawClient.open(odin_scenario, capacity=300)
    for _ in range(60):
        await client.command("subscribe", channels=["nonsense"])
        await trio.sleep(0.1)
    assert await client.close_frame() == SLOW


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_no_frame_is_cut_off_by_the_close(odin_scenario: Scenario) -> None:
    """What the wire had begun to take is completed, the rest thrown away, then comes the reason."""
    client = await RawClient.open(odin_scenario, capacity=777)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.06, "x" * 100)
    *frames, last = await client.rest()
    messages = texts(frames)
    assert [one["seq"] for one in messages] == list(range(1, len(messages) + 1))
    assert len(messages) < odin_scenario.service.hub.stats.messages_sent
    assert last.close == SLOW


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_who_never_reads_again_is_cut_off(odin_scenario: Scenario) -> None:
    """A closed client has some seconds to hear why; then the connection is given back."""
    client = await RawClient.open(odin_scenario, capacity=300)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.1)
    await trio.sleep(6)
    assert odin_scenario.service.server.connections == set()
    assert odin_scenario.service.server.admission.active == 0
    assert len(await client.rest_bytes()) <= 300
