"""A fetch response for one partition: errors that count at once, and those that count twice."""

from __future__ import annotations

from odin_ws.kafka.fetch_plan import PARTITION_BYTES
from odin_ws.kafka.fetch_result import Effect, apply_fetched
from odin_ws.kafka.partition import Partition, PartitionState
from odin_ws.kafka.protocol import FetchedPartition
from tests.kafka.fake_log import FakeLog
from tests.kafka.fetchers import FIRST

OUT_OF_RANGE = FetchedPartition(FIRST, 1, -1, -1, (), b"")
QUIET = FetchedPartition(FIRST, 0, 5, 5, (), b"")


def fetched(log: FakeLog, offset: int, maximum: int = 1 << 30) -> FetchedPartition:
    """What a leader that cuts its answers off sends of a log."""
    data = log.read(offset, maximum, whole=False, cut=True)
    return FetchedPartition(FIRST, 0, log.end, log.last_stable_offset, (), data)


def test_out_of_range_counts_after_two_fetches_in_a_row() -> None:
    """A successful fetch between them resets the count."""
    partition = Partition(FIRST, 5)
    states = []
    for one in (OUT_OF_RANGE, QUIET, OUT_OF_RANGE, OUT_OF_RANGE):
        partition.state = PartitionState.READING
        apply_fetched(partition, one, 0.0)
        states.append(partition.state.value)
    assert states == ["backing off", "reading", "backing off", "looking up"]


def test_corrupt_batch_is_skipped_after_two_fetches_in_a_row() -> None:
    """After a truncation the same offset has another batch."""
    partition = Partition(FIRST, 0)
    bad, good = FakeLog(), FakeLog()
    bad.corrupt_next([b"1"])
    good.append([b"1"])
    for log, position in ((bad, 0), (good, 1), (bad, 0)):
        apply_fetched(partition, fetched(log, 0), 0.0)
        assert partition.position == position
        partition.position = 0
    apply_fetched(partition, fetched(bad, 0), 0.0)
    assert partition.position == 1


def test_fetch_size_is_reset_after_a_large_batch() -> None:
    """It grows only for the batch that does not fit."""
    partition = Partition(FIRST, 0)
    log = FakeLog()
    log.append([bytes(3 * PARTITION_BYTES)])
    for _ in range(2):
        size = partition.fetch_from(PARTITION_BYTES).max_bytes
        assert apply_fetched(partition, fetched(log, 0, size), 0.0) is Effect.NONE
    size = partition.fetch_from(PARTITION_BYTES).max_bytes
    assert size == 4 * PARTITION_BYTES
    assert Effect.TAKE in apply_fetched(partition, fetched(log, 0, size), 0.0)
    assert partition.fetch_from(PARTITION_BYTES).max_bytes == PARTITION_BYTES
