"""The state of one partition: back-off, open transactions, resets."""

from __future__ import annotations

import pytest

from odin_ws.kafka.partition import OffsetReset, Partition
from odin_ws.records import GapReason
from tests.kafka.fetchers import FIRST


def test_back_off_restarts_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second retry of a new problem is soon, however long an earlier one lasted."""
    monkeypatch.setattr("odin_ws.backoff.random.uniform", lambda _least, maximum: maximum)
    partition = Partition(FIRST, 0)
    for now in range(100):
        partition.fail("no leader", now)
    assert partition.retry_at == 99 + 5
    partition.mark_fetched()
    partition.fail("no leader", 200)
    partition.fail("no leader", 230)
    assert partition.retry_at == 230 + 0.2


@pytest.mark.parametrize(
    ("position", "last_stable_offset", "end", "is_held"),
    [(5, 5, 9, True), (3, 5, 9, False), (5, 5, 5, False), (0, -1, -1, False)],
)
def test_partition_is_held_at_an_open_transaction(
    position: int, last_stable_offset: int, end: int, *, is_held: bool
) -> None:
    """Not while earlier records are unread, nor without later ones."""
    partition = Partition(
        FIRST, position, last_stable_offset=last_stable_offset, high_watermark=end
    )
    assert partition.is_held is is_held


def test_reset_drops_the_state_of_the_old_log() -> None:
    """The end offset and the epoch of the last record."""
    partition = Partition(FIRST, 5, record_epoch=3, high_watermark=9, last_stable_offset=5)
    partition.reset(OffsetReset(7, GapReason.EXPIRED))
    assert (partition.position, partition.record_epoch) == (7, -1)
    assert (partition.high_watermark, partition.is_held) == (-1, False)


def test_partition_is_recreated_until_the_reset_is_taken() -> None:
    """First the lookup, then the reset after the buffered records."""
    partition = Partition(FIRST, 5)
    partition.look_up(GapReason.RECREATED)
    assert partition.is_recreated
    partition.reset(OffsetReset(0, GapReason.RECREATED))
    assert partition.is_recreated
    partition.take_reset()
    assert not partition.is_recreated
