"""Random actions in random order: a client that resumes gets exactly its records."""

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
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

TOKENS = ("BTC", "ETH", "a.b")
CATEGORIES = ("trade", "social")
PARTITIONS = 2
INSTANCES = 2

PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]

# Bytes of an instance's history: nothing, about five messages, or all.
RETAINED = (0, 5000, 1 << 20)


@attrs.frozen
class Publish:
    """Publish records of some tokens and categories, each of `size` bytes."""

    channels: tuple[tuple[str, str, int], ...]
    size: int


@attrs.frozen
class Connect:
    """Connect a disconnected client to an instance, over a pipe of some capacity."""

    client: int
    instance: int
    capacity: int
    pause: float


@attrs.frozen
class Subscribe:
    """Subscribe a client to one more pattern."""

    client: int
    pattern: str


@attrs.frozen
class Unsubscribe:
    """Unsubscribe a client from one of its patterns."""

    client: int
    which: int


@attrs.frozen
class BreakOff:
    """Break a client's connection."""

    client: int


@attrs.frozen
class Crash:
    """Crash an instance and start a new one in its place."""

    instance: int
    retained: int


@attrs.frozen
class SetBroker:
    """Make the broker available or not for an instance's live source."""

    instance: int
    there: bool


@attrs.frozen
class SetLogReader:
    """Let an instance's log reader work or fail; `held`: it does not answer."""

    instance: int
    there: bool
    held: bool


@attrs.frozen
class SlowLogReader:
    """Let an instance's log reader return `batch` records after `seconds`."""

    instance: int
    batch: int
    seconds: float


@attrs.frozen
class Delete:
    """Delete the oldest share of a partition's records, as retention does."""

    topic: int
    partition: int
    share: float


@attrs.frozen
class Pause:
    """Let time pass."""

    seconds: float


Action = (
    Publish
    | Connect
    | Subscribe
    | Unsubscribe
    | BreakOff
    | Crash
    | SetBroker
    | SetLogReader
    | SlowLogReader
    | Delete
    | Pause
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
        Connect, clients, instances, st.sampled_from([1 << 20, 1 << 20, 3000, 500]), st.just(0.0)
    ),
    st.builds(Connect, clients, instances, st.just(500), st.sampled_from([0.02, 0.2])),
    st.builds(Subscribe, clients, st.sampled_from(PATTERNS)),
    st.builds(Unsubscribe, clients, st.integers(0, 5)),
    st.builds(BreakOff, clients),
    st.builds(Crash, instances, st.sampled_from(RETAINED)),
    st.builds(SetBroker, instances, st.booleans()),
    st.builds(SetLogReader, instances, st.booleans(), st.booleans()),
    st.builds(Pause, st.sampled_from([0.0, 0.0, 0.01, 0.06, 0.7, 40.0])),
)
slowness = st.builds(
    SlowLogReader, instances, st.sampled_from([1, 3, 500]), st.sampled_from([0, 0.05, 1.0])
)
deletions = st.builds(Delete, st.integers(0, 1), st.integers(0, PARTITIONS - 1), st.floats(0, 1))


class InstanceSlot:
    """Runs one instance after the other."""

    def __init__(self, log: MemoryLog, scans: int) -> None:
        self._log = log
        self._scans = scans
        self._scope = trio.CancelScope()
        self.scenario: Scenario

    async def run(
        self, retained: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run an instance until it crashes."""
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
        """Crash the instance."""
        self.scenario.crash()
        self._scope.cancel()


class Cluster:
    """A log, two instances with `scans` replay consumers each, and clients."""

    def __init__(self, nursery: trio.Nursery, followers: list[Follower], scans: int) -> None:
        self.records: list[Record] = []
        self._nursery = nursery
        self._log = MemoryLog(default_catalogue().topics, PARTITIONS)
        self._slots = [InstanceSlot(self._log, scans) for _ in range(INSTANCES)]
        self._followers = followers

    def _follower(self, client: int) -> Follower:
        return self._followers[client % len(self._followers)]

    async def start(self, retained: tuple[int, ...]) -> None:
        """Start the instances."""
        for slot, size in zip(self._slots, retained, strict=True):
            await self._nursery.start(slot.run, size)

    async def do(self, action: Action) -> None:
        """Carry out an action."""
        match action:
            case Connect(client, instance, capacity, pause):
                await self._connect(self._follower(client), instance, capacity, pause)
            case Subscribe(client, pattern):
                await self._send(client, "subscribe", channels=[pattern], positions=True)
            case Unsubscribe(client, which):
                names = self._follower(client).channels
                for pattern in names[which : which + 1]:
                    await self._send(client, "unsubscribe", channels=[pattern])
            case BreakOff(client):
                self._follower(client).break_off()
            case Crash(instance, retained):
                slot = self._slots[instance]
                slot.crash()
                await self._nursery.start(slot.run, retained)
            case Pause(seconds):
                await trio.sleep(seconds)
            case _:
                self._do_to_the_log(action)

    def _do_to_the_log(
        self, action: Publish | Delete | SetBroker | SetLogReader | SlowLogReader
    ) -> None:
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
            case SetBroker(instance, there):
                source = self._slots[instance].scenario.source
                (source.find_broker if there else source.lose_broker)()
            case SetLogReader(instance, there, held):
                log_reader = self._slots[instance].scenario.log_reader
                (log_reader.hold if held else log_reader.release)()
                (log_reader.recover if there else log_reader.fail)()
            case SlowLogReader(instance, batch, seconds):
                log_reader = self._slots[instance].scenario.log_reader
                log_reader.batch, log_reader.seconds = batch, seconds

    async def _connect(
        self, follower: Follower, instance: int, capacity: int, pause: float
    ) -> None:
        follower.break_off()
        follower.pause = pause
        await follower.connect(self._nursery, self._slots[instance].scenario, capacity=capacity)

    async def _send(self, client: int, kind: str, **data: Any) -> None:
        # Before the response to its first command it has no positions.
        follower = self._follower(client)
        if follower.live and not follower.closed:
            # The client may not have read yet that its connection has ended.
            with suppress(Closed):
                await follower.send(kind, **data)

    async def settle(self) -> None:
        """Repair everything, and let all clients reconnect until they have received all records."""
        for slot in self._slots:
            slot.scenario.source.find_broker()
            slot.scenario.log_reader.release()
            slot.scenario.log_reader.recover()
            slot.scenario.log_reader.batch, slot.scenario.log_reader.seconds = 500, 0
        for follower in self._followers:
            follower.pause = 0.0
        while True:
            # Longer than a client waits for a response, or than the write timeout.
            await trio.sleep(35)
            away = [
                follower for follower in self._followers if follower.closed or not follower.live
            ]
            if not away:
                break
            for number, follower in enumerate(away):
                await self._connect(follower, number % INSTANCES, 1 << 20, 0.0)
        for slot in self._slots:
            slot.crash()


def play(
    followers: list[Follower], retained: tuple[int, ...], plan: list[Action], scans: int = 4
) -> None:
    """Carry out a plan, and check what the clients have received."""

    async def main(_clock: MockClock) -> None:
        # A run takes far less: this detects a server that hangs.
        with trio.fail_after(7200):
            await run()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(nursery, followers, scans)
            await cluster.start(retained)
            for action in plan:
                await cluster.do(action)
            await cluster.settle()
            nursery.cancel_scope.cancel()
        for follower in followers:
            follower.check(cluster.records)

    in_virtual_time(main)


names = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)
client_patterns = st.lists(names, min_size=3, max_size=3)
retentions = st.tuples(*[st.sampled_from(RETAINED)] * INSTANCES)


@given(client_patterns, retentions, st.lists(actions, max_size=25))
@settings(max_examples=examples(40))
def test_each_client_gets_exactly_its_records(
    patterns_of: list[list[str]], retained: tuple[int, ...], plan: list[Action]
) -> None:
    """No record is missing or repeated, and each partition's records are in order."""
    followers = [Follower(*patterns) for patterns in patterns_of]
    play(followers, retained, plan)
    assert not any(follower.lost for follower in followers)


@given(client_patterns, retentions, st.lists(actions | deletions, max_size=25))
@settings(max_examples=examples(20))
def test_deleted_records_are_reported_lost(
    patterns_of: list[list[str]], retained: tuple[int, ...], plan: list[Action]
) -> None:
    """Records that retention deletes are reported if they are not delivered."""
    play([Follower(*patterns) for patterns in patterns_of], retained, plan)


@given(
    st.lists(names, min_size=8, max_size=8),
    st.sampled_from([0, 5000]),
    st.integers(1, 2),
    st.lists(actions | slowness, max_size=40),
)
@settings(max_examples=examples(40))
def test_clients_on_scans_get_exactly_their_records(
    patterns_of: list[list[str]], retained: int, scans: int, plan: list[Action]
) -> None:
    """Clients join scans, are passed by them, are slow, disconnect and unsubscribe."""
    followers = [Follower(*patterns) for patterns in patterns_of]
    play(followers, (retained,) * INSTANCES, plan, scans)
    assert not any(follower.lost for follower in followers)


@given(
    st.lists(names, min_size=8, max_size=8),
    st.integers(1, 2),
    st.lists(actions | slowness | deletions, max_size=40),
)
@settings(max_examples=examples(20))
def test_deleted_records_are_reported_to_clients_on_scans(
    patterns_of: list[list[str]], scans: int, plan: list[Action]
) -> None:
    """Also if retention deletes records that a scan was about to read."""
    play([Follower(*patterns) for patterns in patterns_of], (0, 5000), plan, scans)
