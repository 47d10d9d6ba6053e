"""What is said to all connections: in order with their messages, and before they are sent away."""

from __future__ import annotations

import json
from typing import Any

import trio
from trio.testing import MockClock

from odin_ws.protocol.responses import feed_notice
from odin_ws.testing.scenario import Scenario
from odin_ws.testing.scenario import ScenarioClient as WebSocketClient
from tests.hub.hub_driver import Client
from tests.hub.joins import Interrupting, join
from tests.scenarios.wire import Op, RawClient

STALLED = feed_notice("stalled", 1)
LIVE = feed_notice("live", 2)


class Slow(Client):
    """A subscriber that takes a millisecond of each cycle, so that others get a turn in it."""

    def __init__(self, clock: MockClock) -> None:
        super().__init__()
        self._clock = clock

    def received(self) -> None:
        """Let the time pass."""
        self._clock.jump(0.001)


async def told(client: WebSocketClient) -> list[dict[str, Any]]:
    """All that a client was told without being asked, until it is answered."""
    heard = []
    await client.send('{"type":"heartbeat"}')
    while (answer := await client.answer())["type"] != "pong":
        heard.append(answer)
    return heard


async def test_who_is_sent_away_gets_first_what_the_running_cycle_owes_it(
    odin_scenario: Scenario, autojump_clock: MockClock
) -> None:
    """The record was published before the advice; after the close it could not come any more."""
    service = odin_scenario.service
    client = await RawClient.open(odin_scenario)
    async with trio.open_nursery() as nursery:
        going = Interrupting(lambda: nursery.start_soon(service.server.connections.close_all, 0))
        join(service.hub, "*.*", client=going)
        for _ in range(200):
            join(service.hub, "*.*", client=Slow(autojump_clock))
        await client.subscribe("*.*")
        odin_scenario.publish("BTC", "trade")
        heard = [await client.next() for _ in range(3)]
    assert [one.json["type"] for one in heard[:2]] == ["message", "reconnect"]
    assert heard[2].close == (1012, "the server is restarting")


async def test_an_announcement_comes_after_what_the_running_cycle_owes(
    odin_scenario: Scenario, autojump_clock: MockClock
) -> None:
    """Clients may take it to be about what comes after it."""
    service = odin_scenario.service
    client = await RawClient.open(odin_scenario)
    async with trio.open_nursery() as nursery:
        telling = Interrupting(
            lambda: nursery.start_soon(service.server.connections.announce, STALLED)
        )
        join(service.hub, "*.*", client=telling)
        for _ in range(200):
            join(service.hub, "*.*", client=Slow(autojump_clock))
        await client.subscribe("*.*")
        odin_scenario.publish("BTC", "trade")
        heard = [(await client.next()).json["type"] for _ in range(2)]
    assert heard == ["message", "feed"]


async def test_an_advice_says_when_to_come_back(odin_scenario: Scenario) -> None:
    """Each gets its own time, within the jitter that keeps them apart."""
    clients = [await RawClient.open(odin_scenario) for _ in range(50)]
    await odin_scenario.service.server.connections.close_all(0)
    times = []
    for client in clients:
        advice = (await client.next()).json
        assert advice.keys() == {"type", "data"}
        assert advice["data"].keys() == {"after_ms", "reason"}
        assert (advice["type"], advice["data"]["reason"]) == ("reconnect", "draining")
        times.append(advice["data"]["after_ms"])
        assert (await client.next()).op is Op.CLOSE
    assert all(isinstance(one, int) and 0 <= one <= 1000 for one in times)
    assert len(set(times)) > 10


async def test_what_stands_is_told_to_newcomers(odin_scenario: Scenario) -> None:
    """As long as it stands; an announcement alone is only for those who are there."""
    server = odin_scenario.service.server
    stalled, live = json.loads(STALLED), json.loads(LIVE)
    early = await odin_scenario.connect()
    assert await told(early) == []
    server.connections.current_notices["feed"] = STALLED
    await server.connections.announce(STALLED)
    late = await odin_scenario.connect()
    assert await told(early) == await told(late) == [stalled]
    del server.connections.current_notices["feed"]
    await server.connections.announce(LIVE)
    latest = await odin_scenario.connect()
    assert await told(early) == await told(late) == [live]
    assert await told(latest) == []


async def test_everybody_is_told_however_many_they_are(odin_scenario: Scenario) -> None:
    """Once each, whoever comes or goes meanwhile."""
    clients = [await RawClient.open(odin_scenario) for _ in range(450)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.server.connections.announce, STALLED)
        await trio.lowlevel.checkpoint()
        clients[-1].stream.break_off()
        nursery.start_soon(odin_scenario.connect)
    for client in clients[:-1]:
        assert (await client.next_but_pings()).payload == STALLED
    await trio.sleep(1)
    await odin_scenario.service.server.connections.announce(LIVE)
    for client in clients[:-1]:
        assert (await client.next_but_pings()).payload == LIVE
