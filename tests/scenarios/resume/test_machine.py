"""Whatever happens in whatever order: who comes back gets exactly its records."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.records import Record, TopicPartition
from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Closed, Scenario, open_scenario
from tests.virtual_time import in_virtual_time

TOKENS = ("BTC", "ETH", "a.b")
CATEGORIES = ("trade", "social")
PARTITIONS = 2
INSTANCES = 2

PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]

# What an instance keeps: nothing, some five messages, or all.
RETAINED = (0, 5000, 1 << 20)


@attrs.frozen
class Publish:
    """Records of some tokens and categories, each of so many bytes."""

    channels: tuple[tuple[str, str, int], ...]
    size: int


@attrs.frozen
class Come:
    """A client that is away comes to an instance, over a pipe of some capacity."""

    client: int
    instance: int
    capacity: int
    pause: float


@attrs.frozen
class Widen:
    """A client subscribes to one more pattern."""

    client: int
    pattern: str


@attrs.frozen
class Narrow:
    """A client unsubscribes from one of its patterns."""

    client: int
    which: int


@attrs.frozen
class Break:
    """A client's connection is lost."""

    client: int


@attrs.frozen
class Crash:
    """An instance dies, and a new one takes its place."""

    instance: int
    retained: int


@attrs.frozen
class Source:
    """An instance's broker goes or comes, for what it reads now."""

    instance: int
    there: bool


@attrs.frozen
class LogReader:
    """The same, for what it reads of the past; `held`: it does not respond, nor fail."""

    instance: int
    there: bool
    held: bool


@attrs.frozen
class Slow:
    """An instance gets so many records of the past at once, and waits so long for them."""

    instance: int
    batch: int
    seconds: float


@attrs.frozen
class Delete:
    """The log's retention takes the oldest records of a partition."""

    topic: int
    partition: int
    share: float


@attrs.frozen
class Pause:
    """Time passes."""

    seconds: float


Action = (
    Publish | Come | Widen | Narrow | Break | Crash | Source | LogReader | Slow | Delete | Pause
)

clients = st.integers(0, 7)
instances = st.integers(0, INSTANCES - 1)
channels = st.tuples(
    st.sampled_from(TOKENS), st.sampled_from(CATEGORIES), st.integers(0, PARTITIONS - 1)
)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(
        Publish,
        st.lists(channels, min_size=1, max_size=12).map(tuple),
        st.sampled_from([0, 0, 0, 700, 30_000]),
    ),
    st.builds(
        Come, clients, instances, st.sampled_from([1 << 20, 1 << 20, 3000, 500]), st.just(0.0)
    ),
    st.builds(Come, clients, instances, st.just(500), st.sampled_from([0.02, 0.2])),
    st.builds(Widen, clients, st.sampled_from(PATTERNS)),
    st.builds(Narrow, clients, st.integers(0, 5)),
    st.builds(Break, clients),
    st.builds(Crash, instances, st.sampled_from(RETAINED)),
    st.builds(Source, instances, st.booleans()),
    st.builds(LogReader, instances, st.booleans(), st.booleans()),
    st.builds(Pause, st.sampled_from([0.0, 0.0, 0.01, 0.06, 0.7, 40.0])),
)
slowness = st.builds(Slow, instances, st.sampled_from([1, 3, 500]), st.sampled_from([0, 0.05, 1.0]))
deletions = st.builds(Delete, st.integers(0, 1), st.integers(0, PARTITIONS - 1), st.floats(0, 1))


class Place:
    """Where an instance runs, one after the other."""

    def __init__(self, log: MemoryLog, scans: int) -> None:
        self._log = log
        self._scans = scans
        self._scope = trio.CancelScope()
        self.scenario: Scenario

    async def run(
        self, retained: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """One of them."""
        settings = Settings(
            ws_history_bytes=retained,
            ws_send_queue_bytes=20_000,
            ws_positions_interval_seconds=1,
            ws_replay_consumers=self._scans,
        )
        with trio.CancelScope() as self._scope:
            async with open_scenario(settings, log=self._log) as self.scenario:
                task_status.started()
                await trio.sleep_forever()

    def crash(self) -> None:
        """End it."""
        self.scenario.crash()
        self._scope.cancel()


class World:
    """A log, two instances with so many scans each, and clients."""

    def __init__(self, nursery: trio.Nursery, followers: list[Follower], scans: int) -> None:
        self.records: list[Record] = []
        self._nursery = nursery
        self._log = MemoryLog(default_catalogue().topics, PARTITIONS)
        self._places = [Place(self._log, scans) for _ in range(INSTANCES)]
        self._followers = followers

    def _follower(self, client: int) -> Follower:
        return self._followers[client % len(self._followers)]

    async def start(self, retained: tuple[int, ...]) -> None:
        """Start the instances."""
        for place, size in zip(self._places, retained, strict=True):
            await self._nursery.start(place.run, size)

    async def do(self, action: Action) -> None:
        """Let something happen."""
        match action:
            case Come(client, instance, capacity, pause):
                await self._come(self._follower(client), instance, capacity, pause)
            case Widen(client, pattern):
                await self._say(client, "subscribe", channels=[pattern], positions=True)
            case Narrow(client, which):
                names = self._follower(client).channels
                for pattern in names[which : which + 1]:
                    await self._say(client, "unsubscribe", channels=[pattern])
            case Break(client):
                self._follower(client).break_off()
            case Crash(instance, retained):
                place = self._places[instance]
                place.crash()
                await self._nursery.start(place.run, retained)
            case Pause(seconds):
                await trio.sleep(seconds)
            case _:
                self._do_to_the_log(action)

    def _do_to_the_log(self, action: Publish | Delete | Source | LogReader | Slow) -> None:
        categories = default_catalogue().categories
        match action:
            case Publish(channels, size):
                value = b'{"x":"%b"}' % (b"x" * size)
                for token, category, partition in channels:
                    topic = categories[category].name
                    self.records.append(
                        self._log.append(topic, token.encode(), value, partition=partition)
                    )
            case Delete(number, partition, share):
                topic = categories[CATEGORIES[number]].name
                first, end = self._log.bounds()[TopicPartition(topic, partition)]
                self._log.delete_before(topic, partition, first + round(share * (end - first)))
            case Source(instance, there):
                source = self._places[instance].scenario.source
                (source.find_broker if there else source.lose_broker)()
            case LogReader(instance, there, held):
                log_reader = self._places[instance].scenario.log_reader
                (log_reader.hold if held else log_reader.release)()
                (log_reader.recover if there else log_reader.fail)()
            case Slow(instance, batch, seconds):
                log_reader = self._places[instance].scenario.log_reader
                log_reader.batch, log_reader.seconds = batch, seconds

    async def _come(self, follower: Follower, instance: int, capacity: int, pause: float) -> None:
        follower.break_off()
        follower.pause = pause
        await follower.connect(self._nursery, self._places[instance].scenario, capacity=capacity)

    async def _say(self, client: int, kind: str, **data: Any) -> None:
        # Before the answer to its first command it has no positions to follow.
        follower = self._follower(client)
        if follower.live and not follower.closed:
            # It may not have read yet that its connection has ended.
            with suppress(Closed):
                await follower.send(kind, **data)

    async def settle(self) -> None:
        """Let everything be well again, and everybody come back until they have it all."""
        for place in self._places:
            place.scenario.source.find_broker()
            place.scenario.log_reader.release()
            place.scenario.log_reader.recover()
            place.scenario.log_reader.batch, place.scenario.log_reader.seconds = 500, 0
        for follower in self._followers:
            follower.pause = 0.0
        while True:
            # Longer than a client waits for an answer, or counts as slow.
            await trio.sleep(35)
            away = [one for one in self._followers if one.closed or not one.live]
            if not away:
                break
            for number, follower in enumerate(away):
                await self._come(follower, number % INSTANCES, 1 << 20, 0.0)
        for place in self._places:
            place.crash()


def play(
    followers: list[Follower], retained: tuple[int, ...], plan: list[Action], scans: int = 4
) -> None:
    """Let it all happen, and see what the clients have got."""

    async def main(_clock: MockClock) -> None:
        # It takes far less: this is for a server that hangs.
        with trio.fail_after(7200):
            await live()

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery, followers, scans)
            await world.start(retained)
            for action in plan:
                await world.do(action)
            await world.settle()
            nursery.cancel_scope.cancel()
        for follower in followers:
            follower.check(world.records)

    in_virtual_time(main)


names = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)
crowds = st.lists(names, min_size=3, max_size=3)
retentions = st.tuples(*[st.sampled_from(RETAINED)] * INSTANCES)


@given(crowds, retentions, st.lists(actions, max_size=25))
@settings(max_examples=40, deadline=None)
def test_everybody_gets_exactly_their_records(
    crowd: list[list[str]], retained: tuple[int, ...], plan: list[Action]
) -> None:
    """Nothing is missing, nothing comes twice, and all of a partition comes in order."""
    followers = [Follower(*patterns) for patterns in crowd]
    play(followers, retained, plan)
    assert not any(follower.lost for follower in followers)


@given(crowds, retentions, st.lists(actions | deletions, max_size=25))
@settings(max_examples=20, deadline=None)
def test_what_the_log_deletes_is_told(
    crowd: list[list[str]], retained: tuple[int, ...], plan: list[Action]
) -> None:
    """Where retention takes records too, what does not come is told to be lost."""
    play([Follower(*patterns) for patterns in crowd], retained, plan)


@given(
    st.lists(names, min_size=8, max_size=8),
    st.sampled_from([0, 5000]),
    st.integers(1, 2),
    st.lists(actions | slowness, max_size=40),
)
@settings(max_examples=40, deadline=None)
def test_crowd_on_scans_gets_exactly_its_records(
    crowd: list[list[str]], retained: int, scans: int, plan: list[Action]
) -> None:
    """Clients that join a scan, are passed by one, are slow, go or narrow what they want."""
    followers = [Follower(*patterns) for patterns in crowd]
    play(followers, (retained,) * INSTANCES, plan, scans)
    assert not any(follower.lost for follower in followers)


@given(
    st.lists(names, min_size=8, max_size=8),
    st.integers(1, 2),
    st.lists(actions | slowness | deletions, max_size=40),
)
@settings(max_examples=20, deadline=None)
def test_crowd_on_scans_is_told_what_the_log_deletes(
    crowd: list[list[str]], scans: int, plan: list[Action]
) -> None:
    """Also where retention takes records that a scan was about to read."""
    play([Follower(*patterns) for patterns in crowd], (0, 5000), plan, scans)
