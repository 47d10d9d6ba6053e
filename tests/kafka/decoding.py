"""What holds of decoded bytes, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from odin_ws.kafka.record_batches import read_batches
from odin_ws.records import Record, TopicPartition, Undecodable

__all__ = ["INT64_MAX", "check_decoding"]

INT64_MAX: Final = (1 << 63) - 1
KEY: Final = TopicPartition("odin.trades", 3)


def check_decoding(data: bytes, offset: int, aborted: Sequence[tuple[int, int]]) -> None:
    """Nothing is raised, offsets ascend, and the position moves or the caller knows why."""
    for skip in (False, True):
        decoded = read_batches(KEY, data, offset, aborted, skip_corrupt=skip)
        found = [one.offset for one in decoded.records]
        assert found == sorted(set(found))
        assert all(offset <= one < decoded.next_offset for one in found)
        assert offset <= decoded.next_offset <= INT64_MAX
        assert -(1 << 31) <= decoded.last_epoch < 1 << 31
        for record in decoded.records:
            _check_record(record)
        if decoded.next_offset == offset:
            told = decoded.corrupt is not None or decoded.incomplete
            assert told or not data
            assert not skip or decoded.corrupt is None


def _check_record(record: Record) -> None:
    """What the hub relies on."""
    assert isinstance(record.timestamp, int)
    assert -(1 << 63) <= record.timestamp <= INT64_MAX
    assert record.key is None or type(record.key) is bytes
    assert record.value is None or type(record.value) is bytes
    assert record.invalid is None or isinstance(record.invalid, Undecodable)
