"""`delivery: "latest"`: a slow client gets each channel's newest message, and a skipped count."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.hub import Conflation
from odin_ws.testing.assertions import offsets_of, position_of
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.factories import record
from tests.hub.hub_driver import Client as HubClient
from tests.hub.hub_driver import dispatching, make_hub
from tests.hub.joins import join
from tests.scenarios.resume.following import all_messages

TOKENS = 5

slow = pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000)


async def flood(scenario: Scenario, count: int) -> None:
    """Publish `count` records of some tokens, faster than a slow client reads."""
    for number in range(count):
        scenario.publish(f"T{number % TOKENS}", "trade", [number, "x" * 500])
        await trio.sleep(0.02)


def last_of_each(messages: list[dict[str, Any]]) -> dict[str, int]:
    """Return the offset of the newest message by channel."""
    return {message["channel"]: position_of(message)[1] for message in messages}


def assert_consistent(messages: list[dict[str, Any]]) -> int:
    """Assert that `seq` and `skipped` add up and offsets ascend; return the number skipped."""
    assert messages[0]["seq"] == 1 + messages[0].get("skipped", 0)
    for earlier, later in pairwise(messages):
        assert later["seq"] == earlier["seq"] + 1 + later.get("skipped", 0)
    for offsets in offsets_of(messages).values():
        assert offsets == sorted(set(offsets))
    return sum(message.get("skipped", 0) for message in messages)


async def slow_subscriber(scenario: Scenario, nursery: trio.Nursery) -> Follower:
    """Connect a slow client with `delivery: latest`."""
    follower = Follower("*.trade")
    follower.pause = 0.2
    await follower.connect(nursery, scenario, capacity=1000, delivery="latest")
    await trio.sleep(1)
    return follower


@slow
async def test_slow_client_gets_newest_message_of_each_channel(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Sequence numbers and `skipped` add up to all messages."""
    follower = await slow_subscriber(odin_scenario, nursery)
    await flood(odin_scenario, 500)
    await trio.sleep(10)
    skipped = assert_consistent(follower.messages)
    assert skipped + len(follower.messages) == 500
    assert skipped > 100
    assert odin_scenario.service.hub.stats.messages_skipped == skipped
    newest = {
        f"{record.key.decode()}.trade": record.offset
        for record in odin_scenario.log.records
        if record.key
    }
    assert last_of_each(follower.messages) == newest
    assert follower.closed is None


@slow
async def test_fast_client_gets_all_messages(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Nothing is skipped."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario, delivery="latest")
    await trio.sleep(1)
    await flood(odin_scenario, 300)
    await trio.sleep(2)
    follower.check(odin_scenario.log.records)
    assert assert_consistent(follower.messages) == 0


@slow
async def test_messages_to_slow_client_are_recent(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Only the connection's buffer and WS_CONFLATION_THRESHOLD_BYTES are pending."""
    follower = await slow_subscriber(odin_scenario, nursery)
    published: dict[int, float] = {}
    ages: list[float] = []
    for number in range(1000):
        published[number] = trio.current_time()
        odin_scenario.publish("BTC", "trade", [number, "x" * 500])
        before = len(follower.messages)
        await trio.sleep(0.05)
        received = follower.messages[before:]
        ages += [trio.current_time() - published[one["data"]["data"][0]] for one in received]
    assert max(ages) < 5
    assert len(ages) > 100


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_send_queue_bytes=10_000)
async def test_slow_client_is_not_closed_for_its_backlog(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The backlog stays below the limit, and WS_WRITE_TIMEOUT_SECONDS does not apply."""
    follower = await slow_subscriber(odin_scenario, nursery)
    follower.pause = 12.0
    (connection,) = odin_scenario.service.server.connections
    for number in range(1500):
        odin_scenario.publish("BTC", "trade", [number, "x" * 1500])
        await trio.sleep(0.02)
        assert connection.send_queue.backlog < 10_000
    assert connection.closing is None


@slow
async def test_response_follows_held_messages(odin_scenario: Scenario) -> None:
    """The order of responses and messages is kept."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    # Until the last of them was dispatched.
    await trio.sleep(1)
    assert (await client.unsubscribe(channels=["*.trade"]))["unsubscribed"] == ["*.trade"]
    await flood(odin_scenario, 10)
    messages = await all_messages(client)
    assert assert_consistent(messages) + len(messages) == 100


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_write_timeout_seconds=10)
async def test_changing_to_delivery_all_ends_conflation(odin_scenario: Scenario) -> None:
    """A client that does not read is slow again."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    await client.subscribe(channels=["*.trade"], delivery="all")
    messages = await all_messages(client)
    assert assert_consistent(messages) > 0
    await flood(odin_scenario, 50)
    more = await all_messages(client)
    assert (len(more), more[0]["seq"]) == (50, messages[-1]["seq"] + 1)
    (connection,) = odin_scenario.service.server.connections
    await flood(odin_scenario, 20)
    await trio.sleep(12)
    assert connection.closing is DisconnectReason.SLOW


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_write_timeout_seconds=10)
async def test_changing_to_delivery_all_while_not_reading_closes(odin_scenario: Scenario) -> None:
    """WS_WRITE_TIMEOUT_SECONDS then applies to pending messages too."""
    client = await odin_scenario.connect(capacity=500)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    await client.send('{"type":"subscribe","data":{"channels":["T0.trade"],"delivery":"all"}}')
    (connection,) = odin_scenario.service.server.connections
    await trio.sleep(12)
    assert connection.closing is DisconnectReason.SLOW


@slow
async def test_resume_with_delivery_latest_replays_all_records(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Live messages afterwards are conflated."""
    follower = await slow_subscriber(odin_scenario, nursery)
    follower.break_off()
    await flood(odin_scenario, 100)
    follower.pause = 0.1
    await follower.connect(nursery, odin_scenario, capacity=1000, delivery="latest")
    await trio.sleep(60)
    follower.check(odin_scenario.log.records)
    follower.pause = 0.5
    await flood(odin_scenario, 200)
    await trio.sleep(30)
    skipped = assert_consistent(follower.messages)
    assert skipped > 0
    assert skipped + len(follower.messages) == 300


@pytest.mark.odin_settings(ws_send_queue_bytes=5000)
async def test_slow_client_with_delivery_all_is_closed_and_resumes(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """After 1008 it resumes, and gets each record once."""
    follower = Follower("*.trade")
    follower.pause = 0.3
    await follower.connect(nursery, odin_scenario, capacity=1000)
    await trio.sleep(1)
    await flood(odin_scenario, 200)
    await trio.sleep(60)
    assert follower.closed
    assert (follower.closed.code, follower.closed.reason.split(":")[0]) == (1008, "slow")
    assert 0 < len(follower.messages) < 200
    follower.pause = 0.05
    await follower.connect(nursery, odin_scenario, capacity=1000)
    await trio.sleep(60)
    follower.check(odin_scenario.log.records)
    assert follower.closed is None


async def test_writing_to_conflated_clients_yields_to_other_tasks(
    autojump_clock: MockClock,
) -> None:
    """As a cycle's writes to other clients do."""

    class Slow(HubClient):
        def received(self) -> None:
            autojump_clock.jump(0.001)

    hub = make_hub()
    clients = [join(hub, "*.*", client=Slow()) for _ in range(200)]
    for client in clients:
        client.subscriber.conflation = Conflation(lambda: False, 1 << 20, lambda: None)
    written_meanwhile: list[int] = []

    async def look() -> None:
        await trio.sleep(0.01)
        written_meanwhile.append(sum(len(client.writes) for client in clients))

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await feeder.publish(record())
    assert 0 < written_meanwhile[0] < 200
    assert all(len(client.writes) == 1 for client in clients)
