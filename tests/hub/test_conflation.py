"""`delivery: latest`: a slow client gets the newest message of each channel."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.http_api.event_ids import EventFormats
from odin_ws.hub import Conflation, Hub, SubscriptionOptions
from odin_ws.protocol.event_id import parse_event_id
from odin_ws.protocol.wire_format import Frames
from tests.factories import message, record
from tests.http_api.event_source import EventParser
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import join


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=6))
def test_newest_message_of_each_channel_waits_in_order(batches: list[list[str]]) -> None:
    """A replaced message is counted; a taken one is removed."""
    conflation = Conflation(lambda: False, 1 << 20, lambda: None)
    offset = 0
    waiting: dict[str, int] = {}
    for tokens in batches:
        numbered = list(enumerate(tokens, offset))
        offset += len(tokens)
        before = len(waiting)
        for number, token in numbered:
            waiting.pop(token, None)
            waiting[token] = number
        replaced = conflation.add([message(token, offset=number) for number, token in numbered])
        assert replaced == before + len(tokens) - len(waiting)
    assert conflation.waiting == len(waiting)
    assert conflation.holding is bool(waiting)
    messages, skipped = conflation.take()
    assert {message.token: message.record.offset for message in messages} == waiting
    assert [message.record.offset for message in messages] == list(waiting.values())
    assert skipped == offset - len(waiting)
    assert not conflation.waiting
    assert conflation.take() == ([], 0)


def test_waiting_messages_are_bounded_in_bytes() -> None:
    """A new channel each time replaces nothing; replaced and taken messages do not count."""
    overflows: list[int] = []
    size = len(message("a").value)
    conflation = Conflation(lambda: True, 3 * size, lambda: overflows.append(conflation.waiting))
    for tokens in ("abc", "cba", "aaaaaaaa"):
        conflation.add([message(token) for token in tokens])
    conflation.take()
    conflation.add([message(token) for token in "def"])
    assert overflows == []
    conflation.add([message("g")])
    assert overflows == [4]


class Slow(Client):
    """A client that asked for the latest, and takes something when a test says so."""

    def __init__(self, hub: Hub, *patterns: str) -> None:
        super().__init__()
        self.behind = False
        self.subscriber.conflation = Conflation(lambda: self.behind, 1 << 20, lambda: None)
        join(hub, *patterns, client=self)

    def numbers(self) -> list[tuple[int, int, str]]:
        """Sequence number, skipped ones before it, and place of every message so far."""
        return [
            (message["seq"], message.get("skipped", 0), message["pos"]) for message in self.messages
        ]


async def test_fast_client_gets_every_message(autojump_clock: MockClock) -> None:
    """Nothing is replaced while the send queue is empty."""
    hub = make_hub()
    client = Slow(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(3):
            await feeder.publish(record(offset=2 * offset), record(offset=2 * offset + 1))
    assert client.numbers() == [(number + 1, 0, f"0-{number}") for number in range(6)]
    assert hub.stats.messages_skipped == 0


async def test_slow_client_gets_the_number_skipped(autojump_clock: MockClock) -> None:
    """In the next message, and in the sequence numbers."""
    hub = make_hub()
    client, other = Slow(hub, "*.*"), join(hub, "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        client.behind = True
        for offset in range(1, 9):
            await feeder.publish(record(b"BTC" if offset % 2 else b"ETH", offset=offset))
        assert len(client.writes) == 1
        client.behind = False
        hub.release(client.subscriber)
        await feeder.publish(record(offset=9))
    assert client.numbers() == [(1, 0, "0-0"), (8, 6, "0-7"), (9, 0, "0-8"), (10, 0, "0-9")]
    assert "skipped" not in client.messages[2]
    assert hub.stats.messages_skipped == 6
    assert hub.stats.messages_sent == 4 + 10
    assert other.positions == [f"0-{offset}" for offset in range(10)]


async def test_waiting_messages_are_not_overtaken(autojump_clock: MockClock) -> None:
    """While messages wait, newer ones wait too, also once the client has read everything."""
    hub = make_hub()
    client = Slow(hub, "*.*")
    async with dispatching(hub) as feeder:
        client.behind = True
        await feeder.publish(record(b"BTC", offset=0))
        client.behind = False
        await feeder.publish(record(b"ETH", offset=1))
        assert client.writes == []
        hub.release(client.subscriber)
    assert client.numbers() == [(1, 0, "0-0"), (2, 0, "0-1")]


async def test_waiting_messages_precede_an_answer(autojump_clock: MockClock) -> None:
    """For a slow client too."""
    hub = make_hub()
    client = Slow(hub, "*.*")
    client.behind = True
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
        hub.flush(client.subscriber)
    assert client.numbers() == [(2, 1, "0-1")]


async def test_waiting_messages_precede_the_end_of_their_subscription(
    autojump_clock: MockClock,
) -> None:
    """None of its messages follow."""
    hub = make_hub()
    client = Slow(hub, "*.trade")
    client.behind = True
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        hub.unsubscribe(client.subscriber, ["*.trade"])
        hub.release(client.subscriber)
    assert client.positions == ["0-0"]


class CatchesUp(Client):
    """A client that is written first, and whose writes let another one catch up in mid-cycle."""

    def __init__(self, hub: Hub, other: Client) -> None:
        super().__init__()
        self._hub = hub
        self._other = other

    def received(self) -> None:
        """Have the other's send queue become empty."""
        if self._other.subscriber.pending is not None:
            self._hub.release(self._other.subscriber)


async def test_event_id_of_waiting_messages_is_not_past_the_running_cycle(
    autojump_clock: MockClock,
) -> None:
    """A stream that catches up in mid-cycle and is cut there resumes behind what it has got.

    The hub's position is behind the running cycle, whose messages the stream has not got.
    """
    hub = make_hub()
    client = Slow(hub, "*.trade")
    client.subscriber.form, _ = EventFormats(hub).live(["odin.trades"], Frames.SINGLE, None)
    join(hub, "ETH.trade", client=CatchesUp(hub, client))
    async with dispatching(hub) as feeder:
        client.behind = True
        await feeder.publish(record(b"BTC", offset=0))
        client.behind = False
        await feeder.publish(record(b"ETH", offset=1))
    events = list(EventParser().feed(b"".join(client.writes)))
    assert [event.json["pos"] for event in events] == ["0-0", "0-1"]
    ids = [parse_event_id(event.last_event_id).positions for event in events]
    assert ids == [{"odin.trades": {0: 0}}, {"odin.trades": {0: 1}}]


async def test_waiting_message_does_not_overtake_a_released_one_of_the_running_cycle(
    autojump_clock: MockClock,
) -> None:
    """A client that is cut between the two would resume behind both."""
    hub = make_hub()
    client, rate = Slow(hub, "BTC.trade"), SubscriptionOptions(max_rate=1)
    first = CatchesUp(hub, client)
    for one in first, client:
        hub.subscribe(one.subscriber, ["ETH.trade"], options=rate)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"ETH", offset=0))
        client.behind = True
        await feeder.publish(record(b"ETH", offset=1), record(b"BTC", offset=2))
        client.behind = False
        await trio.sleep(1.1)
    assert client.positions == ["0-0", "0-1", "0-2"]
    assert not any("ahead" in message for message in client.messages)
