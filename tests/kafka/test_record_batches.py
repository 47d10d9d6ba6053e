"""Fetched bytes become the records from an offset on, and none that was taken back."""

from __future__ import annotations

import pytest
from aiokafka.errors import CorruptRecordException

from odin_ws.kafka.record_batches import read_batches
from odin_ws.records import TopicPartition
from tests.kafka.batches import CHECKSUM_AT, batch

KEY = TopicPartition("odin.trades", 3)


def offsets(
    data: bytes, offset: int = 0, aborted: list[tuple[int, int]] | None = None
) -> list[int]:
    """The offsets of the records."""
    return [one.offset for one in read_batches(KEY, data, offset, aborted or [])[0]]


@pytest.mark.parametrize("codec", range(5))
def test_records_are_what_was_published(codec: int) -> None:
    """With each codec there is."""
    ((first, second), behind) = read_batches(KEY, batch(7, 2, codec=codec), 7, [])
    assert (first.topic, first.partition, first.offset) == ("odin.trades", 3, 7)
    assert (second.offset, second.timestamp, second.key, second.value) == (8, 1008, b"BTC", b"8")
    assert behind == 9


def test_a_batch_is_read_from_the_offset_on() -> None:
    """The broker gives whole batches, also to who has the first half already."""
    assert offsets(batch(0, 5) + batch(5, 3), 3) == [3, 4, 5, 6, 7]


def test_holes_between_batches_are_passed() -> None:
    """Compaction and deletion leave holes; the place behind the last batch is where to go on."""
    records, behind = read_batches(KEY, batch(2, 1) + batch(10, 1), 0, [])
    assert [one.offset for one in records] == [2, 10]
    assert behind == 11


def test_a_batch_that_is_cut_off_comes_again() -> None:
    """A fetch has a size; what is not whole is not read and not passed."""
    records, behind = read_batches(KEY, batch(0, 2) + batch(2, 2)[:-1], 0, [])
    assert [one.offset for one in records] == [0, 1]
    assert behind == 2


def test_nothing_is_read_of_nothing() -> None:
    """The place stays."""
    assert read_batches(KEY, b"", 17, []) == ([], 17)


@pytest.mark.parametrize("aborted", [[], [(9, 0)]], ids=["plain", "with transactions"])
def test_a_wrong_checksum_is_no_record(aborted: list[tuple[int, int]]) -> None:
    """What the disk or the network has broken is never delivered."""
    broken = bytearray(batch(0, 1))
    broken[CHECKSUM_AT] ^= 1
    with pytest.raises(CorruptRecordException):
        offsets(bytes(broken), aborted=aborted)


def test_what_a_transaction_took_back_is_not_read() -> None:
    """Only the producer's that the broker names, from the offset that it names."""
    data = batch(0, 2, producer=9) + batch(2, 2, producer=4) + batch(4, 1)
    assert offsets(data, aborted=[(9, 0)]) == [2, 3, 4]
    assert offsets(data) == [0, 1, 2, 3, 4]
