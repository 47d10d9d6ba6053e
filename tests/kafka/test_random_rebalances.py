"""KAFKA_ASSIGNMENT=group: random rebalances, restarts and faults leave no silent gap."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import aiokafka
import attrs
import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from odin_ws.kafka.trio_asyncio_compat import open_loop
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.assertions import position_of
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.kafka.cluster_scenario import open_cluster_scenario
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fake_coordinator import FakeCoordinator
from tests.kafka.sources import TOPICS

TRADES = "odin.trades"
PARTITIONS = 4
INSTANCES = 3
STEPS = 40

SEEDS = range(int(os.environ.get("ODIN_REBALANCE_SEEDS", "6")))

RECONNECT = 1012


@attrs.define(eq=False)
class Instance:
    """A member of the group, and a client that is always connected to it, as far as possible."""

    run: GroupRun
    follower: Follower = attrs.field(factory=lambda: Follower("*.trade"))
    connections: list[tuple[dict[TopicPartition, int], list[dict[str, Any]]]] = attrs.field(
        factory=list
    )
    stop: trio.Event = attrs.field(factory=trio.Event)
    crashes: bool = False
    ends: bool = False

    async def serve(self) -> None:
        """Run the server again and again; each time with its client."""
        run = self.run
        while True:
            self.stop, self.crashes, self.ends = trio.Event(), False, False
            async with (
                open_cluster_scenario(
                    run.cluster,
                    run.monkeypatch,
                    run.taken,
                    kafka_assignment="group",
                    kafka_consumer_group="odin",
                ) as scenario,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._follow, scenario)
                await self.stop.wait()
                self.ends = True
                if self.crashes:
                    # Its member commits nothing more.
                    tap: Any = scenario._upstream.source  # noqa: SLF001
                    run.coordinator.forget(tap.source._member)  # noqa: SLF001
                    scenario.crash()
                else:
                    await scenario.drain()
            await trio.sleep(run.chance.choice([0.1, 3]))

    async def _follow(self, scenario: Scenario) -> None:
        async with trio.open_nursery() as nursery:
            while not self.ends:
                before = dict(self.follower.positions)
                try:
                    await self.follower.connect(nursery, scenario)
                except (
                    ConnectionRefusedError,
                    trio_websocket.ConnectionClosed,
                    trio_websocket.HandshakeError,
                ):
                    await trio.sleep(0.2)
                    continue
                self.connections.append((before, self.follower.items))
                code, _ = await self.follower.wait_closed()
                assert code in {RECONNECT, 1001, 1006}, code
                await trio.sleep(self.run.chance.choice([0, 0.2, 2]))


@attrs.define(eq=False)
class GroupRun:
    """Instances of a group, what is done to them, and what is published meanwhile."""

    cluster: FakeCluster
    chance: random.Random
    monkeypatch: pytest.MonkeyPatch
    coordinator: FakeCoordinator = attrs.field(init=False)
    instances: list[Instance] = attrs.field(init=False)
    taken: list[Record] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.coordinator = FakeCoordinator(self.cluster, self.chance)
        self.instances = [Instance(self) for _ in range(INSTANCES)]

    def keys(self) -> list[TopicPartition]:
        """The partitions that the clients subscribe to."""
        return [TopicPartition(TRADES, number) for number in range(PARTITIONS)]

    def publish(self, keys: Iterable[TopicPartition]) -> None:
        """Append some records to each partition."""
        for key in keys:
            log = self.cluster.logs[key]
            count = self.chance.randint(1, 5)
            log.append([b'{"type":"TRADE_EXECUTED","timestamp":0,"data":0}'] * count)
        self.cluster.change()

    async def step(self) -> None:
        """Do something of what happens to a group."""
        chance = self.chance
        match chance.choice(
            ["rebalance", "rebalance", "restart", "crash", "commits", "leader", "fetch", "cut", ""]
        ):
            case "rebalance":
                await self.coordinator.rebalance()
            case "restart":
                chance.choice(self.instances).stop.set()
            case "crash":
                instance = chance.choice(self.instances)
                instance.crashes = True
                instance.stop.set()
            case "commits" if self.coordinator.members:
                member = chance.choice(self.coordinator.members)
                member.commits_fail = not member.commits_fail
            case "leader":
                self.cluster.move(chance.choice(self.keys()), chance.randrange(3))
            case "fetch":
                self.cluster.group.error = chance.choice([0, 14, 16])
            case "cut":
                chance.choice(self.instances).follower.break_off()

    async def run(self) -> None:
        """Publish and do `STEPS` things, then wait until all is quiet."""
        async with open_loop(), trio.open_nursery() as nursery:
            nursery.start_soon(self.coordinator.run)
            for instance in self.instances:
                nursery.start_soon(instance.serve)
            await trio.sleep(20)
            for _ in range(STEPS):
                self.publish(self.chance.sample(self.keys(), self.chance.randint(0, PARTITIONS)))
                await trio.sleep(self.chance.choice([0, 0.05, 0.5, 3]))
                await self.step()
            self.cluster.group.error = 0
            for member in self.coordinator.members:
                member.commits_fail = False
            await trio.sleep(60)
            self.publish(self.keys())
            await trio.sleep(10)
            nursery.cancel_scope.cancel()


def by_partition(topics: dict[str, dict[str, Any]]) -> dict[TopicPartition, Any]:
    """A field of an answer, for the topic of the test."""
    return {
        TopicPartition(TRADES, int(number)): it for number, it in topics.get(TRADES, {}).items()
    }


def check_connection(before: dict[TopicPartition, int], items: list[dict[str, Any]]) -> None:
    """A connection has each record of a partition once, in order, behind what the client had."""
    got: dict[TopicPartition, list[int]] = defaultdict(list)
    lost: dict[TopicPartition, set[int]] = defaultdict(set)
    for item in items:
        if "seq" in item:
            key, offset = position_of(item)
            got[key].append(offset)
        for key, (first, last) in by_partition(item.get("lost", {})).items():
            lost[key] |= set(range(first, last + 1))
    acks = (item["partitions"] for item in items if "partitions" in item)
    served: list[int] = next((found[TRADES] for found in acks if TRADES in found), [])
    for key, offsets in got.items():
        first = before[key] + 1 if key in before and key.partition in served else offsets[0]
        wanted = [
            at for at in range(first, offsets[-1] + 1) if at in offsets or at not in lost[key]
        ]
        assert offsets == wanted, (key, before.get(key))


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_rebalances_leave_no_silent_gap(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A member takes each record; each connection has all that its member takes, once."""
    # Trio runs the tasks of a pass in random order.
    monkeypatch.setattr(trio._core._run, "_r", random.Random(seed))  # noqa: S311, SLF001
    random.seed(seed)
    others = [TopicPartition(topic, 0) for topic in TOPICS if topic != TRADES]
    keys = [TopicPartition(TRADES, number) for number in range(PARTITIONS)]
    cluster = FakeCluster({key: n % 3 for n, key in enumerate([*keys, *others])})
    run = GroupRun(cluster, random.Random(seed), monkeypatch)  # noqa: S311
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", run.coordinator.consumer)
    await run.run()
    taken = {(record.topic, record.partition, record.offset) for record in run.taken}
    for key in keys:
        missing = [at for at in range(cluster.logs[key].end) if (*key, at) not in taken]
        assert not missing, key
    connections = [one for instance in run.instances for one in instance.connections]
    for before, items in connections:
        check_connection(before, items)
    assert min(len(connections), run.coordinator.rebalances) > INSTANCES
