"""Messages for all connections: in order with their records, and before a close."""

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
    """A subscriber that takes a millisecond per cycle, so that other tasks run within the cycle."""

    def __init__(self, clock: MockClock) -> None:
        super().__init__()
        self._clock = clock

    def received(self) -> None:
        """Let a millisecond pass."""
        self._clock.jump(0.001)


async def notices(client: WebSocketClient) -> list[dict[str, Any]]:
    """All notices that a client receives before the response to a command."""
    seen = []
    await client.send('{"type":"heartbeat"}')
    while (response := await client.response())["type"] != "pong":
        seen.append(response)
    return seen


async def test_closed_client_first_receives_pending_messages_of_the_cycle(
    odin_scenario: Scenario, autojump_clock: MockClock
) -> None:
    """The record was published before the notice; after the close it could not arrive."""
    service = odin_scenario.service
    client = await RawClient.open(odin_scenario)
    async with trio.open_nursery() as nursery:
        going = Interrupting(lambda: nursery.start_soon(service.server.connections.close_all, 0))
        join(service.hub, "*.*", client=going)
        for _ in range(200):
            join(service.hub, "*.*", client=Slow(autojump_clock))
        await client.subscribe("*.*")
        odin_scenario.publish("BTC", "trade")
        seen = [await client.next() for _ in range(3)]
    assert [one.json["type"] for one in seen[:2]] == ["message", "reconnect"]
    assert seen[2].close == (1012, "the server is restarting")


async def test_announcement_follows_pending_messages_of_the_cycle(
    odin_scenario: Scenario, autojump_clock: MockClock
) -> None:
    """Clients may assume that it applies to the messages after it."""
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
        seen = [(await client.next()).json["type"] for _ in range(2)]
    assert seen == ["message", "feed"]


async def test_reconnect_notice_has_a_delay_per_client(odin_scenario: Scenario) -> None:
    """Each client gets a time of its own: within a second, and 50 ms for 50 at 1,000 per second."""
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
    assert all(isinstance(time, int) and 0 <= time <= 1050 for time in times)
    assert len(set(times)) > 10


async def test_lasting_notice_is_sent_to_new_clients(odin_scenario: Scenario) -> None:
    """A lasting notice is also sent to new clients; an announcement is not."""
    server = odin_scenario.service.server
    stalled, live = json.loads(STALLED), json.loads(LIVE)
    early = await odin_scenario.connect()
    assert await notices(early) == []
    server.connections.current_notices["feed"] = STALLED
    await server.connections.announce(STALLED)
    late = await odin_scenario.connect()
    assert await notices(early) == await notices(late) == [stalled]
    del server.connections.current_notices["feed"]
    await server.connections.announce(LIVE)
    latest = await odin_scenario.connect()
    assert await notices(early) == await notices(late) == [live]
    assert await notices(latest) == []


async def test_every_client_receives_an_announcement(odin_scenario: Scenario) -> None:
    """Each client gets it once, whatever connects or disconnects meanwhile."""
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
