"""`delivery: "latest"`: who is behind gets the newest of each channel, and is told how many not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.hub import Conflation
from odin_ws.testing.assertions import offsets_of, place_of
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
    """Publish so many of some tokens, faster than a slow client takes them."""
    for number in range(count):
        scenario.publish(f"T{number % TOKENS}", "trade", [number, "x" * 500])
        await trio.sleep(0.02)


def last_of_each(messages: list[dict[str, Any]]) -> dict[str, int]:
    """By channel, the offset of the newest."""
    return {one["channel"]: place_of(one)[1] for one in messages}


def assert_honest(messages: list[dict[str, Any]]) -> int:
    """What is missing is told, by numbers, and what came is in order; how many were skipped."""
    assert messages[0]["seq"] == 1 + messages[0].get("skipped", 0)
    for earlier, later in pairwise(messages):
        assert later["seq"] == earlier["seq"] + 1 + later.get("skipped", 0)
    for offsets in offsets_of(messages).values():
        assert offsets == sorted(set(offsets))
    return sum(one.get("skipped", 0) for one in messages)


async def slow_subscriber(scenario: Scenario, nursery: trio.Nursery) -> Follower:
    """A client over a thin wire that asked for the latest."""
    follower = Follower("*.trade")
    follower.pause = 0.2
    await follower.connect(nursery, scenario, capacity=1000, delivery="latest")
    await trio.sleep(1)
    return follower


@slow
async def test_who_is_behind_gets_the_newest_of_each_channel(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Numbers and `skipped` add up, order holds, and in the end it has each channel's newest."""
    follower = await slow_subscriber(odin_scenario, nursery)
    await flood(odin_scenario, 500)
    await trio.sleep(10)
    skipped = assert_honest(follower.messages)
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
async def test_who_keeps_up_gets_everything(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Nothing is left out of what it has taken in time."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario, delivery="latest")
    await trio.sleep(1)
    await flood(odin_scenario, 300)
    await trio.sleep(2)
    follower.check(odin_scenario.log.records)
    assert assert_honest(follower.messages) == 0


@slow
async def test_it_is_behind_by_little(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """However long it goes on, what comes is young: its wire and its mark are all that waits."""
    follower = await slow_subscriber(odin_scenario, nursery)
    published: dict[int, float] = {}
    ages: list[float] = []
    for number in range(1000):
        published[number] = trio.current_time()
        odin_scenario.publish("BTC", "trade", [number, "x" * 500])
        before = len(follower.messages)
        await trio.sleep(0.05)
        came = follower.messages[before:]
        ages += [trio.current_time() - published[one["data"]["data"][0]] for one in came]
    assert max(ages) < 5
    assert len(ages) > 100


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_send_queue_bytes=10_000)
async def test_it_is_never_closed_for_its_backlog(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Memory stays below the limit, and WS_WRITE_TIMEOUT_SECONDS does not apply."""
    follower = await slow_subscriber(odin_scenario, nursery)
    follower.pause = 12.0
    (connection,) = odin_scenario.service.server.connections
    for number in range(1500):
        odin_scenario.publish("BTC", "trade", [number, "x" * 1500])
        await trio.sleep(0.02)
        assert connection.send_queue.backlog < 10_000
    assert connection.closing is None


@slow
async def test_an_answer_comes_after_what_waits(odin_scenario: Scenario) -> None:
    """Asking something makes the held messages come first: order of answers and news holds."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    assert (await client.unsubscribe(channels=["*.trade"]))["unsubscribed"] == ["*.trade"]
    await flood(odin_scenario, 10)
    messages = await all_messages(client)
    assert assert_honest(messages) + len(messages) == 100


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_write_timeout_seconds=10)
async def test_back_to_all(odin_scenario: Scenario) -> None:
    """From then on nothing is left out, and who takes nothing is slow again."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    await client.subscribe(channels=["*.trade"], delivery="all")
    messages = await all_messages(client)
    assert assert_honest(messages) > 0
    await flood(odin_scenario, 50)
    more = await all_messages(client)
    assert (len(more), more[0]["seq"]) == (50, messages[-1]["seq"] + 1)
    (connection,) = odin_scenario.service.server.connections
    await flood(odin_scenario, 20)
    await trio.sleep(12)
    assert connection.closing is DisconnectReason.SLOW


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=3000, ws_write_timeout_seconds=10)
async def test_back_to_all_while_stuck(odin_scenario: Scenario) -> None:
    """Also what waited before has its time then."""
    client = await odin_scenario.connect(capacity=500)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    await flood(odin_scenario, 100)
    await client.send('{"type":"subscribe","data":{"channels":["T0.trade"],"delivery":"all"}}')
    (connection,) = odin_scenario.service.server.connections
    await trio.sleep(12)
    assert connection.closing is DisconnectReason.SLOW


@slow
async def test_a_resume_of_the_latest(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Who comes back is replayed everything, in the pace it takes it; then it is the latest."""
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
    skipped = assert_honest(follower.messages)
    assert skipped > 0
    assert skipped + len(follower.messages) == 300


@pytest.mark.odin_settings(ws_send_queue_bytes=5000)
async def test_with_all_a_slow_client_is_closed_and_loses_nothing(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """1008; then it resumes, and has every record once."""
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


async def test_writing_to_many_of_them_lets_the_others_run(autojump_clock: MockClock) -> None:
    """Like a cycle's writes to everybody else: readers, accepts and pongs get their turn."""

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
