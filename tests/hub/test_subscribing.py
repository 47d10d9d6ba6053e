"""Subscribe, unsubscribe and answers, between cycles and within one."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from odin_ws.hub import Subscriber
from odin_ws.steps import finish
from odin_ws.testing.scenario import Scenario
from tests.factories import record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import Interrupting, join


async def test_subscription_is_live_from_its_acked_positions(
    autojump_clock: MockClock,
) -> None:
    """No record at or before the acked offsets, and every one after them."""
    hub = make_hub()
    client = Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=7), record(partition=1, offset=3))
        join(hub, "*.trade", client=client)
        assert hub.stream.positions_of(["odin.trades"]) == {"odin.trades": {0: 7, 1: 3}}
        await feeder.publish(record(offset=8), record(partition=1, offset=4))
    assert client.positions == ["0-8", "1-4"]


async def test_subscription_within_a_cycle_begins_after_it(
    autojump_clock: MockClock,
) -> None:
    """The acked positions include the cycle, and none of its records is sent."""
    hub = make_hub()
    late = Client()
    acknowledged: list[dict[str, dict[int, int]]] = []

    def subscribe() -> None:
        join(hub, "*.*", client=late)
        acknowledged.append(hub.stream.positions_of(["odin.trades"]))

    join(hub, "BTC.trade", client=Interrupting(subscribe))
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
        assert acknowledged == [{"odin.trades": {0: 1}}]
        assert late.writes == []
        await feeder.publish(record(offset=2))
    assert late.positions == ["0-2"]
    assert [message["seq"] for message in late.messages] == [1]


async def test_second_subscription_within_a_cycle_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    """The cycle's due messages are written once, before the new pattern is live."""
    hub = make_hub()
    late = Client()
    sent_before_the_answer: list[list[str]] = []

    def subscribe() -> None:
        hub.subscribe(late.subscriber, ["*.*"])
        sent_before_the_answer.append(late.positions)

    join(hub, "BTC.trade", client=Interrupting(subscribe))
    join(hub, "BTC.trade", client=late)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"BTC", offset=0), record(b"ETH", offset=1))
        await feeder.publish(record(b"BTC", offset=2), record(b"ETH", offset=3))
    assert sent_before_the_answer == [["0-0"]]
    assert late.positions == ["0-0", "0-2", "0-3"]


async def test_nothing_is_sent_after_unsubscribe_between_cycles(
    autojump_clock: MockClock,
) -> None:
    """Received records that are not dispatched yet are not sent."""
    hub = make_hub()
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        feeder.put(record(offset=1))
        assert hub.unsubscribe(client.subscriber, ["*.*"])
        await feeder.publish(record(offset=2))
    assert client.positions == ["0-0"]


async def test_nothing_is_sent_after_unsubscribe_within_a_cycle(
    autojump_clock: MockClock,
) -> None:
    """The cycle's due messages are sent before the unsubscribe returns."""
    hub = make_hub()
    leaving = Client()
    sent_before_the_answer: list[int] = []

    def unsubscribe() -> None:
        assert hub.unsubscribe(leaving.subscriber, ["BTC.trade"])
        sent_before_the_answer.append(len(leaving.writes))

    join(hub, "BTC.trade", client=Interrupting(unsubscribe))
    join(hub, "BTC.trade", client=leaving)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
        await feeder.publish(record(offset=2))
    assert leaving.positions == ["0-0", "0-1"]
    assert sent_before_the_answer == [len(leaving.writes)] == [1]


async def test_unsubscribe_from_one_pattern_keeps_the_others(autojump_clock: MockClock) -> None:
    """Records of another pattern still arrive."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "*.trade")
    async with dispatching(hub) as feeder:
        assert hub.unsubscribe(client.subscriber, ["BTC.trade"])
        assert not hub.unsubscribe(client.subscriber, ["BTC.trade"])
        await feeder.publish(record())
    assert client.positions == ["0-0"]


async def test_flush_writes_due_messages_once(autojump_clock: MockClock) -> None:
    """An answer within a cycle follows the messages due before it."""
    hub = make_hub()
    asking = Client()
    join(hub, "*.*", client=Interrupting(lambda: hub.flush(asking.subscriber)))
    behind = [join(hub, "*.*") for _ in range(3)]
    join(hub, "*.*", client=asking)
    order: list[Client] = []
    for client in (*behind, asking):
        client.received = lambda client=client: order.append(client)  # type: ignore[method-assign,misc]
    async with dispatching(hub) as feeder:
        await feeder.publish(record())
        assert order == [asking, *behind]
        hub.flush(asking.subscriber)
    assert asking.positions == ["0-0"]


async def test_subscriber_that_ends_within_a_cycle_is_not_written(
    autojump_clock: MockClock,
) -> None:
    """Its patterns are removed."""
    hub = make_hub()
    gone, stays = Client(), Client()
    join(hub, "BTC.trade", client=Interrupting(lambda: finish(hub.leave(gone.subscriber))))
    join(hub, "*.*", "*.trade", client=gone)
    join(hub, "*.*", client=stays)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        assert len(hub.index) == 2
        await feeder.publish(record(offset=1))
    assert gone.writes == []
    assert stays.positions == ["0-0", "0-1"]


async def test_leave_twice_or_without_a_subscription_does_nothing(
    autojump_clock: MockClock,
) -> None:
    """The end of a connection need not know its subscriptions."""
    hub = make_hub()
    client = join(hub, "*.*")
    finish(hub.leave(client.subscriber))
    finish(hub.leave(client.subscriber))
    finish(hub.leave(Client().subscriber))
    assert len(hub.index) == 0


@pytest.mark.parametrize(("command", "response"), [("heartbeat", "pong"), ("nonsense", "error")])
async def test_answer_within_a_cycle_follows_its_messages(
    odin_scenario: Scenario, autojump_clock: MockClock, command: str, response: str
) -> None:
    """Also of a command that changes no subscription: clients rely on the order."""
    hub = odin_scenario.service.hub
    sessions = odin_scenario.service.server.stats.sessions
    carried_out: list[int] = []

    class Slow(Client):
        def received(self) -> None:
            autojump_clock.jump(0.001)
            carried_out.append(sessions.commands)

    asking = await odin_scenario.connect()
    async with trio.open_nursery() as nursery:
        text = json.dumps({"type": command})
        join(hub, "*.*", client=Interrupting(lambda: nursery.start_soon(asking.send, text)))
        # Each 32 of them are a slice, after which the others get one turn; a command takes several.
        for _ in range(1000):
            join(hub, "*.*", client=Slow())
        await asking.subscribe(channels=["*.*"])
        odin_scenario.publish("BTC", "trade")
        received = [json.loads(await asking.websocket.get_message())["type"] for _ in range(2)]
    assert received == ["message", response]
    # It was carried out while the cycle ran, before it was the client's turn.
    assert carried_out == sorted(carried_out)
    assert (carried_out[0], carried_out[-1]) == (1, 2)


async def test_pattern_is_stored_once_for_all_subscribers(autojump_clock: MockClock) -> None:
    """Else 1,024 names of 126 bytes are 150 KB per connection."""
    hub = make_hub()
    subscribers = [Subscriber(lambda _: None) for _ in range(3)]
    for subscriber in subscribers:
        # Each client's own text, as it is decoded from its command.
        hub.subscribe(subscriber, [b"BTC.trade".decode()])
    texts = {
        id(text)
        for subscriber in subscribers
        for text in (*subscriber.patterns, *subscriber.live_from)
    }
    assert len(texts) == 1
