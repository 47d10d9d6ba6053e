"""Every record exactly once, in order, whatever leaders, sessions, brokers and positions do."""

from __future__ import annotations

from typing import Final

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from trio.testing import MockClock

from odin_ws.kafka.fetcher import Fetcher
from odin_ws.records import GapReason, TopicPartition
from tests.hypothesis_examples import examples
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, fetching
from tests.virtual_time import in_virtual_time

KEYS: Final = (FIRST, SECOND)
CODES: Final = [-1, 2, 3, 5, 6, 7, 9, 56, 74, 75, 78, 100]

STEPS: Final = [
    "publish",
    "publish",
    "take",
    "take few",
    "wait",
    "move",
    "no leader",
    "truncate",
    "retention",
    "transaction",
    "hole",
    "error",
    "query error",
    "mend",
    "sessions",
    "down",
    "hang",
    "fetch error",
    "out of range",
    "recreate",
]


class Reading:
    """What was taken, against what the logs had; `next`: where each partition goes on."""

    def __init__(self, cluster: FakeCluster, fetcher: Fetcher) -> None:
        self.cluster = cluster
        self.fetcher = fetcher
        self.next = dict.fromkeys(KEYS, 0)
        # By partition what its log ever said of an offset: a value for each log it was.
        self.written: dict[TopicPartition, dict[int, set[bytes]]] = {key: {} for key in KEYS}
        # What a log no longer has, or had when it was cut: only a jump may leave it out.
        self.values = 0
        self.resets: list[GapReason] = []

    def publish(self, key: TopicPartition, count: int, producer: int = -1) -> None:
        """Each record has a value of its own."""
        log = self.cluster.logs[key]
        values = [b"%d" % (self.values + number) for number in range(count)]
        self.values += count
        for number, value in enumerate(values):
            self.written[key].setdefault(log.end + number, set()).add(value)
        log.append(values, producer=producer)
        self.cluster.change()

    async def take(self, maximum: int | None) -> None:
        """Offsets ascend, values are those that were written there, and nothing is left out."""
        taken = await self.fetcher.take(maximum)
        assert maximum is None or len(taken.records) <= maximum
        for record in taken.records:
            key = TopicPartition(record.topic, record.partition)
            assert record.value in self.written[key][record.offset]
            assert record.offset >= self.next[key]
            self.pass_to(key, record.offset)
            self.next[key] = record.offset + 1
        for key, offset in taken.passed.items():
            assert offset >= self.next[key] - 1
            self.pass_to(key, offset + 1)
            self.next[key] = offset + 1
        for key, reset in taken.resets.items():
            self.resets.append(reset.reason)
            assert reset.reason is not GapReason.EXPIRED or reset.offset > self.next[key]
            self.next[key] = reset.offset

    def pass_to(self, key: TopicPartition, offset: int) -> None:
        """Nothing that can be delivered is between the last record and this one."""
        for left_out in range(self.next[key], offset):
            assert left_out in self.without_record[key] or left_out not in self.written[key]

    @property
    def without_record(self) -> dict[TopicPartition, set[int]]:
        """Offsets of markers and of aborted records."""
        return {
            key: {
                offset
                for producer, first, last in log.aborted
                for batch in log.batches
                if batch.producer == producer and first <= batch.base <= last
                for offset in range(batch.base, batch.end)
            }
            | {batch.base for batch in log.batches if batch.is_control}
            for key, log in self.cluster.logs.items()
        }

    async def step(self, name: str, draw: DataObject) -> None:  # noqa: C901 -- one case a step
        """Do one thing."""
        cluster = self.cluster
        key = draw.draw(st.sampled_from(KEYS))
        node = draw.draw(st.integers(0, 2))
        match name:
            case "publish":
                self.publish(key, draw.draw(st.integers(1, 5)))
            case "take":
                await self.take(None)
            case "take few":
                await self.take(draw.draw(st.integers(1, 3)))
            case "wait":
                await trio.sleep(draw.draw(st.sampled_from([0.01, 0.3, 2.0])))
            case "truncate":
                await self.truncate(key, node, draw)
            case "recreate":
                await self.recreate(draw)
            case "transaction":
                self.publish(key, 2, producer=5)
                cluster.logs[key].end_transaction(5, commit=draw.draw(st.booleans()))
                cluster.change()
            case "hole":
                cluster.logs[key].skip_offsets(2)
            case "retention":
                log = cluster.logs[key]
                log.delete_before(draw.draw(st.integers(log.start, log.end)))
            case "move" | "no leader":
                cluster.move(key, node if name == "move" else None)
            case _:
                self.break_something(name, key, node, draw.draw(st.sampled_from(CODES)))

    def break_something(self, name: str, key: TopicPartition, node: int, code: int) -> None:
        """Let something fail until it is mended."""
        cluster = self.cluster
        match name:
            case "error":
                cluster.errors[key] = code
            case "query error":
                cluster.query_errors[key] = code
            case "sessions":
                cluster.forget_sessions()
            case "down":
                cluster.down.add(node)
            case "hang":
                cluster.hanging.add(node)
            case "fetch error":
                cluster.fetch_errors[node] = code
            case "out of range":
                cluster.out_of_range[key] = 2
            case "mend":
                self.mend()
        cluster.change()

    def mend(self) -> None:
        """All is well, with some leader."""
        cluster = self.cluster
        for several in (cluster.errors, cluster.query_errors, cluster.fetch_errors):
            several.clear()
        cluster.down.clear()
        cluster.hanging.clear()
        cluster.out_of_range.clear()
        for key in KEYS:
            if cluster.leaders[key] is None:
                cluster.move(key, 0)
        cluster.change()

    async def settle(self) -> None:
        """Take all there is; then every position is at the end of its log."""
        self.mend()
        for _ in range(30):
            await self.take(None)
            await trio.sleep(0.5)
        for key in KEYS:
            assert self.next[key] == self.cluster.logs[key].end
            assert self.fetcher.partitions[key].problem is None

    async def truncate(self, key: TopicPartition, node: int, draw: DataObject) -> None:
        """An unclean election: all that was read is known to the test before."""
        await self.settle()
        log = self.cluster.logs[key]
        keeps = draw.draw(st.integers(log.start, log.end))
        self.cluster.move(key, node, keeps=keeps)

    async def recreate(self, draw: DataObject) -> None:
        """Another topic of the same name, which the source has noticed."""
        await self.settle()
        self.cluster.recreate("odin.trades", 2)
        self.publish(draw.draw(st.sampled_from(KEYS)), 3)
        self.fetcher.apply((await self.cluster.metadata(["odin.trades"])).topics)
        self.fetcher.restart(KEYS)


@settings(max_examples=examples(60))
@given(st.lists(st.sampled_from(STEPS), max_size=40), st.data())
def test_every_record_is_taken_once_in_order_or_a_reset_is_reported(
    steps: list[str], draw: DataObject
) -> None:
    """Nothing is missing, duplicated or misplaced, and everything is read in the end."""

    async def main(_clock: MockClock) -> None:
        cluster = FakeCluster({FIRST: 0, SECOND: 1})
        async with fetching(cluster) as fetcher:
            reading = Reading(cluster, fetcher)
            for name in steps:
                await reading.step(name, draw)
            await reading.settle()

    in_virtual_time(main)
