"""The hub gives each subscriber exactly its records, in order, and writes to it once per slot."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.hub import Hub
from odin_ws.hub.reading import Unreadable
from odin_ws.protocol.envelope import Dialect
from odin_ws.records import Assignment, Batch, Record, TopicPartition
from tests.building import TRADE, record
from tests.decoding import messages
from tests.hub.driving import Client, Feeder, dispatching, make_hub
from tests.virtual_time import in_virtual_time

SLOT = 0.05


class Interrupting(Client):
    """A client whose first write makes something else happen, in the middle of a cycle.

    Whoever comes after it in the cycle has not been written to: those of the same pattern who
    joined later, and those who have only less exact ones.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self._action: Callable[[], None] | None = action

    def received(self) -> None:
        """Do it, once."""
        action, self._action = self._action, None
        if action is not None:
            action()


def join(hub: Hub, *patterns: str, client: Client | None = None) -> Client:
    """A client that has subscribed to some patterns."""
    client = client or Client()
    hub.subscribe(client.subscriber, patterns)
    return client


# ---- who gets what


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["BTC.trade"], ["0-0"]),
        (["*.trade"], ["0-0", "0-1"]),
        (["BTC.*"], ["0-0", "1-0"]),
        (["*.*"], ["0-0", "0-1", "1-0", "1-1"]),
        (["BTC.social", "ETH.trade"], ["0-1", "1-0"]),
        (["SOL.trade"], []),
    ],
)
async def test_a_subscriber_gets_what_its_patterns_name(
    autojump_clock: MockClock, patterns: list[str], expected: list[str]
) -> None:
    """Each pattern brings the records of its channels, and no others."""
    hub = make_hub()
    client = join(hub, *patterns)
    async with dispatching(hub) as feeder:
        await feeder.publish(
            record(b"BTC", offset=0),
            record(b"ETH", offset=1),
            record(b"BTC", topic="odin.social", partition=1, offset=0),
            record(b"ETH", topic="odin.social", partition=1, offset=1),
        )
    assert client.positions == expected


async def test_failing_2_a_record_in_several_audiences_arrives_once(
    autojump_clock: MockClock,
) -> None:
    """Overlapping patterns do not multiply a record."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "*.trade", "BTC.*", "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
    assert client.positions == ["0-0", "0-1", "0-2"]


async def test_records_of_several_channels_come_in_the_order_of_their_arrival(
    autojump_clock: MockClock,
) -> None:
    """Merging a subscriber's audiences does not sort its records by channel."""
    hub = make_hub()
    channels = ["BTC.trade", "ETH.trade", "SOL.social", "ETH.trade", "BTC.trade", "SOL.social"]
    one_by_one = join(hub, "SOL.social", "BTC.trade", "ETH.trade")
    overlapping = join(hub, "ETH.*", "*.trade", "SOL.social", "BTC.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(
            *(
                record(
                    channel.partition(".")[0].encode(),
                    topic="odin.trades" if channel.endswith("trade") else "odin.social",
                    offset=offset,
                )
                for offset, channel in enumerate(channels)
            )
        )
    assert [one["channel"] for one in one_by_one.messages] == channels
    assert [one["channel"] for one in overlapping.messages] == channels


async def test_failing_5_sequence_numbers_count_a_connections_messages_without_a_hole(
    autojump_clock: MockClock,
) -> None:
    """Whatever cycles and channels messages come from, they are numbered from 1 on, each once."""
    hub = make_hub()
    early, late = join(hub, "*.*"), Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
        join(hub, "*.*", client=late)
        await feeder.publish(*(record(offset=offset) for offset in range(3, 5)))
    assert [one["seq"] for one in early.messages] == [1, 2, 3, 4, 5]
    assert [one["seq"] for one in late.messages] == [1, 2]


async def test_failing_9_a_key_with_dots_reaches_its_channel(autojump_clock: MockClock) -> None:
    """A token may contain dots, and even look like another token's channel."""
    hub = make_hub()
    dotted, other = join(hub, "a.b.trade"), join(hub, "a.trade", "b.trade", "a.b.social")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"a.b"))
    assert [one["channel"] for one in dotted.messages] == ["a.b.trade"]
    assert other.messages == []


async def test_each_subscriber_is_spoken_to_in_its_dialect(autojump_clock: MockClock) -> None:
    """Neighbours with the same records but other envelopes do not get each other's bytes."""
    hub = make_hub()
    old, new = Client(Dialect.V0), Client(Dialect.V1)
    for client in (old, new):
        join(hub, "BTC.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record())
    assert [one["type"] for one in (*old.messages, *new.messages)] == ["price:update", "message"]


async def test_failing_28_an_envelope_is_written_once_however_many_subscribers(
    autojump_clock: MockClock,
) -> None:
    """Who gets the same records under the same numbers gets the very same bytes."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade") for _ in range(100)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1


async def test_subscribers_of_the_same_overlapping_patterns_share_their_bytes_too(
    autojump_clock: MockClock,
) -> None:
    """A merged list is made once for all who need it."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade", "*.trade", "BTC.*") for _ in range(10)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"BTC"), record(b"ETH", offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1


# ---- when it is written


async def test_failing_7_the_first_record_after_a_pause_leaves_at_once(
    autojump_clock: MockClock,
) -> None:
    """A single record does not wait for others, nor for a slot."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for number in range(1, 4):
            await feeder.publish(record(offset=number))
            assert len(client.writes) == number
            await trio.sleep(SLOT)


async def test_records_of_one_slot_leave_together_in_one_write(autojump_clock: MockClock) -> None:
    """WS_MAX_BROADCAST_RATE is the most often one subscriber is written to, and loses nothing."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        for offset in range(1, 6):
            await trio.sleep(SLOT / 10)
            await feeder.publish(record(offset=offset))
        assert client.positions == ["0-0"]
        await trio.sleep(SLOT)
    assert len(client.writes) == 2
    assert client.positions == [f"0-{offset}" for offset in range(6)]


async def test_a_slow_trickle_is_written_at_most_once_a_slot(autojump_clock: MockClock) -> None:
    """However records are spread in time, the rate holds in the long run."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(200):
            await feeder.publish(record(offset=offset))
            await trio.sleep(SLOT / 20)
        await trio.sleep(SLOT)
    assert len(client.messages) == 200
    assert len(client.writes) <= 200 / 20 + 1


async def test_without_an_interval_every_batch_is_written_at_once(
    autojump_clock: MockClock,
) -> None:
    """With WS_MAX_BROADCAST_RATE=0 nothing waits."""
    hub = make_hub(0)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(5):
            await feeder.publish(record(offset=offset))
    assert len(client.writes) == 5
    assert trio.current_time() == 0


async def test_all_that_waits_in_the_channel_leaves_in_one_cycle(
    autojump_clock: MockClock,
) -> None:
    """A cycle takes every batch that has come, so a burst costs one write per subscriber."""
    hub = make_hub(SLOT)
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        for offset in range(10):
            feeder.put(record(offset=offset))
        await wait_all_tasks_blocked()
    assert len(client.writes) == 1
    assert len(client.messages) == 10


async def test_a_cycle_is_bounded_in_bytes_and_the_rest_is_the_next_ones(
    autojump_clock: MockClock,
) -> None:
    """A backlog does not become one huge write, in one batch or in many; nothing of it is lost."""
    value = b'{"data":"%b"}' % (b"x" * 1000)
    hub = make_hub(SLOT, cycle_bytes=4 * len(value))
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        feeder.put(*(record(value=value, offset=offset) for offset in range(10)))
        for offset in range(10, 20):
            feeder.put(record(value=value, offset=offset))
        await trio.sleep(10 * SLOT)
    assert [len(messages(write)) for write in client.writes] == [4, 4, 4, 4, 4]
    assert client.positions == [f"0-{offset}" for offset in range(20)]


async def test_a_long_cycle_lets_the_other_tasks_run(autojump_clock: MockClock) -> None:
    """Readers, accepts and pongs get their turn between the writes of one cycle."""

    class Slow(Client):
        def received(self) -> None:
            autojump_clock.jump(0.001)

    hub = make_hub()
    clients = [join(hub, "*.*", client=Slow()) for _ in range(200)]
    written_meanwhile: list[int] = []

    async def look() -> None:
        await trio.sleep(0.01)
        written_meanwhile.append(sum(len(client.writes) for client in clients))

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await feeder.publish(record())
    assert 0 < written_meanwhile[0] < 200
    assert all(len(client.writes) == 1 for client in clients)


async def test_under_load_cycles_stretch(autojump_clock: MockClock) -> None:
    """After a cycle that took long, the dispatcher leaves the loop to the others for a share."""

    class Slow(Client):
        def received(self) -> None:
            autojump_clock.jump(6.5)

    hub = make_hub(SLOT)
    client = join(hub, "*.*", client=Slow())
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        await trio.sleep_until(9.9)
        assert len(client.writes) == 1
        await trio.sleep_until(10.1)
        assert len(client.writes) == 2


# ---- subscribing and leaving, between cycles and in the middle of one


async def test_a_subscription_is_live_from_the_positions_it_is_told(
    autojump_clock: MockClock,
) -> None:
    """Nothing at or before the acknowledged offsets comes, and everything after them."""
    hub = make_hub()
    client = Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=7), record(partition=1, offset=3))
        join(hub, "*.trade", client=client)
        assert hub.positions(["odin.trades"]) == {"odin.trades": {0: 7, 1: 3}}
        await feeder.publish(record(offset=8), record(partition=1, offset=4))
    assert client.positions == ["0-8", "1-4"]


async def test_subscribing_in_the_middle_of_a_cycle_joins_behind_it(
    autojump_clock: MockClock,
) -> None:
    """The acknowledged positions hold the running cycle already, and none of it is sent."""
    hub = make_hub()
    late = Client()
    acknowledged: list[dict[str, dict[int, int]]] = []

    def subscribe() -> None:
        join(hub, "*.*", client=late)
        acknowledged.append(hub.positions(["odin.trades"]))

    join(hub, "BTC.trade", client=Interrupting(subscribe))
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
        assert acknowledged == [{"odin.trades": {0: 1}}]
        assert late.writes == []
        await feeder.publish(record(offset=2))
    assert late.positions == ["0-2"]
    assert [one["seq"] for one in late.messages] == [1]


async def test_subscribing_to_more_in_the_middle_of_a_cycle_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    """What the cycle still owed is written, and written once, before the new pattern is live."""
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


async def test_nothing_is_sent_after_unsubscribing_between_cycles(
    autojump_clock: MockClock,
) -> None:
    """Records that had come but were not dispatched yet are not sent either."""
    hub = make_hub()
    client = join(hub, "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        feeder.put(record(offset=1))
        assert hub.unsubscribe(client.subscriber, ["*.*"])
        await feeder.publish(record(offset=2))
    assert client.positions == ["0-0"]


async def test_nothing_is_sent_after_unsubscribing_in_the_middle_of_a_cycle(
    autojump_clock: MockClock,
) -> None:
    """What the running cycle owes is sent before the unsubscription returns, and nothing after."""
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


async def test_unsubscribing_from_one_pattern_leaves_the_others(autojump_clock: MockClock) -> None:
    """A record that another pattern still asks for goes on coming."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "*.trade")
    async with dispatching(hub) as feeder:
        assert hub.unsubscribe(client.subscriber, ["BTC.trade"])
        assert not hub.unsubscribe(client.subscriber, ["BTC.trade"])
        await feeder.publish(record())
    assert client.positions == ["0-0"]


async def test_a_flush_writes_what_is_due_at_once_and_once(autojump_clock: MockClock) -> None:
    """An answer given in the middle of a cycle comes after the messages that were due before it."""
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


async def test_who_leaves_in_the_middle_of_a_cycle_gets_nothing_more(
    autojump_clock: MockClock,
) -> None:
    """A connection that ended is not written to, and its patterns are forgotten."""
    hub = make_hub()
    gone, stays = Client(), Client()
    join(hub, "BTC.trade", client=Interrupting(lambda: hub.leave(gone.subscriber)))
    join(hub, "*.*", "*.trade", client=gone)
    join(hub, "*.*", client=stays)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        assert hub.patterns == 2
        await feeder.publish(record(offset=1))
    assert gone.writes == []
    assert stays.positions == ["0-0", "0-1"]


async def test_leaving_twice_or_without_a_subscription_does_nothing(
    autojump_clock: MockClock,
) -> None:
    """The end of a connection need not know what it had asked for."""
    hub = make_hub()
    client = join(hub, "*.*")
    hub.leave(client.subscriber)
    hub.leave(client.subscriber)
    hub.leave(Client().subscriber)
    assert hub.patterns == 0


# ---- positions and partitions


async def test_an_assignment_says_what_is_read_and_from_where(autojump_clock: MockClock) -> None:
    """Positions and partitions are those of the last assignment: none of an earlier one is left."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(
            Assignment({TopicPartition("odin.trades", 1): 4, TopicPartition("odin.trades", 0): -1})
        )
        assert hub.partitions(["odin.trades", "odin.social"]) == {
            "odin.trades": [0, 1],
            "odin.social": [],
        }
        assert hub.positions(["odin.trades"]) == {"odin.trades": {0: -1, 1: 4}}
        assert not hub.partial
        await feeder.publish(Assignment({TopicPartition("odin.social", 3): 9}, partial=True))
        assert hub.positions(["odin.trades", "odin.social"]) == {
            "odin.trades": {},
            "odin.social": {3: 9},
        }
        assert hub.partial


async def test_positions_that_were_told_do_not_change_behind_ones_back(
    autojump_clock: MockClock,
) -> None:
    """An acknowledgement holds the offsets of its moment."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=1))
        told = hub.positions(["odin.trades"])
        await feeder.publish(record(offset=2))
    assert told == {"odin.trades": {0: 1}}


# ---- what cannot be delivered


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(None), Unreadable.NO_KEY),
        (record(b"\xff"), Unreadable.BAD_KEY),
        (record(value=None), Unreadable.TOMBSTONE),
        (record(value=b'{"x":"' + b"x" * 1024 + b'"}'), Unreadable.TOO_LARGE),
        (record(value=b"{"), Unreadable.NOT_JSON),
        (record(value=b"[]"), Unreadable.NOT_AN_OBJECT),
    ],
    ids=lambda value: str(value) if isinstance(value, Unreadable) else "",
)
async def test_a_poison_record_is_counted_and_passed_by(
    autojump_clock: MockClock, bad: Record, reason: Unreadable
) -> None:
    """It stops neither the stream nor the positions, and those around it arrive."""
    hub = make_hub(max_record_bytes=1024)
    client = join(hub, "*.*")
    poison = Record(bad.topic, 0, 1, bad.timestamp, bad.key, bad.value)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), poison, record(offset=2))
        assert client.positions == ["0-0", "0-2"]
        await feeder.publish(Record(bad.topic, 0, 3, bad.timestamp, bad.key, bad.value))
        assert hub.positions(["odin.trades"]) == {"odin.trades": {0: 3}}
    assert hub.stats.unreadable == {reason: 2}
    assert len(client.writes) == 1


async def test_failing_27_a_publisher_that_sends_nothing_else_does_not_fill_the_log(
    autojump_clock: MockClock,
) -> None:
    """Of each reason one line is logged in 30 s, with the place of a record and the count."""
    hub = make_hub()
    with capture_logs() as logs:
        async with dispatching(hub) as feeder:
            for second in range(61):
                for number in range(20):
                    offset = 20 * second + number
                    await feeder.publish(record(None, partition=3, offset=offset))
                if second == 7:
                    await feeder.publish(record(value=None))
                await trio.sleep(1)
    assert [(line["reason"], line["offset"], line["so_far"]) for line in logs] == [
        ("no_key", 0, 1),
        ("tombstone", 0, 1),
        ("no_key", 600, 601),
        ("no_key", 1200, 1201),
    ]
    assert {line["log_level"] for line in logs} == {"warning"}
    assert (logs[0]["topic"], logs[0]["partition"]) == ("odin.trades", 3)


async def test_an_unknown_event_type_is_delivered_and_counted(autojump_clock: MockClock) -> None:
    """New publishers do not need a new server; another topic's type is as unknown as any."""
    hub = make_hub()
    client = join(hub, "*.*")
    values = [TRADE, b'{"type":"BRAND_NEW"}', b'{"type":"TOKEN_CREATED"}', b'{"type":[]}', b"{}"]
    async with dispatching(hub) as feeder:
        await feeder.publish(
            *(record(value=value, offset=offset) for offset, value in enumerate(values))
        )
    assert len(client.messages) == 5
    assert hub.stats.unknown_types == 4


async def test_failing_24_what_is_read_and_sent_is_counted(autojump_clock: MockClock) -> None:
    """Records are counted by topic whether or not anybody wants them; messages where sent."""
    hub = make_hub()
    for _ in range(3):
        join(hub, "*.trade")
    now_ms = int(time.time() * 1000)
    async with dispatching(hub) as feeder:
        await feeder.publish(
            record(timestamp=now_ms),
            record(offset=1, timestamp=now_ms - 20_000),
            record(topic="odin.social", timestamp=now_ms),
        )
        await feeder.publish(record(value=None, offset=2))
    assert hub.stats.received == {"odin.trades": 3, "odin.social": 1}
    assert hub.stats.messages_sent == 6
    assert hub.stats.cycle.samples == 2
    # Nobody asked for odin.social: how old its record is says nothing about a delivery.
    assert hub.stats.age.samples == 2
    assert 20 <= hub.stats.age.maximum < 3600


async def test_the_dispatcher_ends_with_its_channel(autojump_clock: MockClock) -> None:
    """A closed channel is the end of the run, after what was in it."""
    hub = make_hub()
    client = join(hub, "*.*")
    send, receive = trio.open_memory_channel[Batch | Assignment](4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run, receive)
        async with send:
            await send.send(Assignment({}))
    assert client.writes == []


# ---- everything at once

TOPICS = {"trade": "odin.trades", "social": "odin.social"}
TOKENS = ("BTC", "ETH", "a.b")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*TOPICS, "*")]
CLIENTS = 3


@attrs.frozen
class Join:
    """A client subscribes."""

    client: int
    patterns: tuple[str, ...]


@attrs.frozen
class Part:
    """A client unsubscribes."""

    client: int
    patterns: tuple[str, ...]


@attrs.frozen
class Publish:
    """A batch comes; at its first delivery some subscriptions change, in mid-cycle."""

    channels: tuple[tuple[str, str, int], ...]  # token, category, partition
    meanwhile: tuple[Join | Part, ...]


@attrs.frozen
class Pause:
    """Time passes."""

    seconds: float


changes = st.builds(
    lambda kind, client, patterns: kind(client, tuple(patterns)),
    st.sampled_from([Join, Part]),
    st.integers(0, CLIENTS - 1),
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4),
)
batches = st.builds(
    Publish,
    st.lists(
        st.tuples(st.sampled_from(TOKENS), st.sampled_from(list(TOPICS)), st.integers(0, 1)),
        min_size=1,
        max_size=5,
    ).map(tuple),
    st.lists(changes, max_size=2).map(tuple),
)
pauses = st.builds(Pause, st.sampled_from([0.0, SLOT / 3, SLOT * 2]))


class Contract:
    """What the acknowledged positions promise each client, beside the hub that has to keep it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.clients = [Client() for _ in range(CLIENTS)]
        self.log: list[Record] = []
        self._next = dict.fromkeys([(t, p) for t in TOPICS.values() for p in (0, 1)], 0)
        # Per client and pattern: the positions it was live after, and those it ended at, if so.
        self._live: list[dict[str, dict[tuple[str, int], int]]] = [{} for _ in self.clients]
        self._promised: list[set[int]] = [set() for _ in self.clients]

    def change(self, change: Join | Part) -> None:
        """Let a client subscribe or unsubscribe, and note from or up to where."""
        subscriber = self.clients[change.client].subscriber
        live = self._live[change.client]
        if isinstance(change, Join):
            self.hub.subscribe(subscriber, change.patterns)
            for pattern in change.patterns:
                live.setdefault(pattern, self._positions())
        else:
            there = self.hub.unsubscribe(subscriber, change.patterns)
            assert there == any(pattern in live for pattern in change.patterns)
            for pattern in set(change.patterns) & live.keys():
                self._promise(change.client, pattern, live.pop(pattern))

    def append(self, publish: Publish) -> list[Record]:
        """The next records of these channels."""
        records: list[Record] = []
        for token, category, partition in publish.channels:
            place = TOPICS[category], partition
            records.append(
                record(
                    token.encode(),
                    topic=place[0],
                    partition=partition,
                    offset=self._next[place],
                    timestamp=len(self.log) + len(records),
                )
            )
            self._next[place] += 1
        self.log += records
        return records

    def check(self) -> None:
        """Each client has what it was promised, once, in the order of arrival, numbered from 1."""
        # Records are told apart by their timestamp, which is their place in the log.
        assert self._positions() == {place: end - 1 for place, end in self._next.items()}
        for number, client in enumerate(self.clients):
            for pattern, start in self._live[number].items():
                self._promise(number, pattern, start)
            received = client.messages
            assert [one["ts"] for one in received] == sorted(self._promised[number])
            assert [one["seq"] for one in received] == list(range(1, len(received) + 1))

    def _positions(self) -> dict[tuple[str, int], int]:
        positions = self.hub.positions(TOPICS.values())
        return {
            (topic, partition): positions[topic].get(partition, -1)
            for topic, partition in self._next
        }

    def _promise(self, client: int, pattern: str, start: dict[tuple[str, int], int]) -> None:
        token, category = pattern.rsplit(".", 1)
        end = self._positions()
        for number, one in enumerate(self.log):
            place = one.topic, one.partition
            if (
                token in {"*", (one.key or b"").decode()}
                and (category == "*" or TOPICS[category] == one.topic)
                and start[place] < one.offset <= end[place]
            ):
                self._promised[client].add(number)


async def play(steps: Iterable[Join | Part | Publish | Pause], interval: float) -> None:
    """Carry out the steps on a hub, and check what its clients got."""
    hub = make_hub(interval)
    contract = Contract(hub)
    meanwhile: list[Join | Part] = []

    def interrupt() -> None:
        todo, meanwhile[:] = list(meanwhile), []
        for change in todo:
            contract.change(change)

    for client in contract.clients:
        client.received = interrupt  # type: ignore[method-assign]
    async with dispatching(hub) as feeder:
        for step in steps:
            await carry_out(step, contract, feeder, meanwhile)
        meanwhile.clear()
        await trio.sleep(1)
        contract.check()


async def carry_out(
    step: Join | Part | Publish | Pause,
    contract: Contract,
    feeder: Feeder,
    meanwhile: list[Join | Part],
) -> None:
    """One step."""
    match step:
        case Publish():
            meanwhile[:] = step.meanwhile
            feeder.put(*contract.append(step))
        case Pause():
            await trio.sleep(step.seconds)
        case _:
            # Between two cycles: what would flush here has no part in a cycle.
            meanwhile.clear()
            contract.change(step)


@settings(max_examples=150)
@given(
    st.lists(changes | batches | batches | pauses, max_size=15),
    st.sampled_from([0.0, SLOT]),
)
def test_any_interleaving_gives_each_subscriber_exactly_its_records(
    steps: list[Join | Part | Publish | Pause], interval: float
) -> None:
    """What lies behind a subscription's positions and up to its end arrives, once and in order."""

    async def main(_: MockClock) -> None:
        await play(steps, interval)

    in_virtual_time(main)
