"""A client that does not read is closed with a reason; others are not affected."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Op, RawClient, texts

SLOW = (1008, "slow: messages waited too long to be taken")


async def publish_until_closing(scenario: Scenario, every: float, text: str = "") -> float:
    """Publish until a connection is closing; return how long that took."""
    started = trio.current_time()
    with trio.fail_after(300):
        while not any(connection.closing for connection in scenario.service.server.connections):
            scenario.publish("BTC", "trade", text)
            await trio.sleep(every)
    return trio.current_time() - started


@pytest.mark.odin_settings(ws_send_queue_bytes=10_000, ws_write_timeout_seconds=3600)
async def test_pending_bytes_over_send_queue_limit_close(odin_scenario: Scenario) -> None:
    """The connection takes 1,000 bytes and the send queue about 10,000."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.1, "x" * 400)
    assert 20 <= odin_scenario.service.hub.stats.messages_sent <= 30
    assert await client.close_frame() == SLOW
    await trio.sleep(10)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.SLOW: 1}


@pytest.mark.odin_settings(ws_write_timeout_seconds=20)
async def test_bytes_pending_longer_than_write_timeout_close(odin_scenario: Scenario) -> None:
    """The number of bytes does not matter."""
    client = await RawClient.open(odin_scenario, capacity=1000)
    await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 2000)
    await trio.sleep(19)
    (connection,) = odin_scenario.service.server.connections
    assert connection.closing is None
    await trio.sleep(2)
    assert connection.closing is DisconnectReason.SLOW
    *messages, last = await client.rest()
    assert [message.op for message in messages] == [Op.TEXT]
    assert last.close == SLOW


@pytest.mark.odin_settings(ws_write_timeout_seconds=20)
async def test_client_that_reads_a_byte_per_half_second_is_closed(odin_scenario: Scenario) -> None:
    """The message is still pending after WS_WRITE_TIMEOUT_SECONDS."""
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
async def test_client_that_reads_slowly_within_limits_stays(odin_scenario: Scenario) -> None:
    """It gets each message, however late."""
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
async def test_message_larger_than_send_queue_limit_is_delivered(odin_scenario: Scenario) -> None:
    """A message of ten times the limit reaches a client that reads."""
    client = await RawClient.open(odin_scenario, capacity=500)
    await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 20_000)
    assert len((await client.next()).payload) > 20_000
    odin_scenario.publish("BTC", "trade", "after")
    assert (await client.next()).json["data"]["data"] == "after"


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_responses_count_to_send_queue_limit(odin_scenario: Scenario) -> None:
    """A client that sends commands and never reads the responses is closed."""
    client = await RawClient.open(odin_scenario, capacity=300)
    for _ in range(60):
        await client.command("subscribe", channels=["nonsense"])
        await trio.sleep(0.1)
    assert await client.close_frame() == SLOW


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_slow_close_completes_the_frame_being_written(odin_scenario: Scenario) -> None:
    """The other pending frames are dropped, then the close frame follows."""
    client = await RawClient.open(odin_scenario, capacity=777)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.06, "x" * 100)
    *frames, last = await client.rest()
    messages = texts(frames)
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
    assert len(messages) < odin_scenario.service.hub.stats.messages_sent
    assert last.close == SLOW


@pytest.mark.odin_settings(ws_send_queue_bytes=4000)
async def test_slow_client_that_never_reads_again_is_aborted(odin_scenario: Scenario) -> None:
    """It has some seconds to read the close frame; then its place is free."""
    client = await RawClient.open(odin_scenario, capacity=300)
    await client.subscribe("BTC.trade")
    await publish_until_closing(odin_scenario, 0.1)
    await trio.sleep(6)
    assert odin_scenario.service.server.connections == set()
    assert odin_scenario.service.server.admission.active == 0
    assert len(await client.rest_bytes()) <= 300
