"""The log of one partition in memory, as its leader has it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import attrs

from odin_ws.kafka.protocol import EARLIEST, EARLIEST_LOCAL, LATEST, EpochEndOffset
from tests.kafka.batches import raw_batch, raw_record, with_epoch

__all__ = ["FakeLog", "now_ms"]

_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20

_NOT_THERE: Final = EpochEndOffset(0, -1, -1)


def now_ms() -> int:
    """The time at which records are published, epoch ms."""
    return int(time.time() * 1000)


@attrs.define
class StoredBatch:
    """`base`, `end`: its first offset and the one behind its last. `published_ms`: epoch ms."""

    base: int
    end: int
    data: bytes
    epoch: int
    published_ms: int
    producer: int = -1
    is_control: bool = False


@attrs.define(eq=False)
class FakeLog:
    """What one partition holds.

    `start`, `end`: its first offset, and the one behind its last. `local_start`: the first that is
    on the broker's own disks; fetches before it get nothing. `epoch`: the leader's own.
    `open_transactions`: by producer the first offset. `aborted`: (producer, first, marker's).
    """

    batches: list[StoredBatch] = attrs.field(factory=list)
    start: int = 0
    end: int = 0
    local_start: int = 0
    epoch: int = 0
    open_transactions: dict[int, int] = attrs.field(factory=dict)
    aborted: list[tuple[int, int, int]] = attrs.field(factory=list)

    # ---- writing

    def append(
        self, values: Sequence[bytes], *, producer: int = -1, published_ms: int | None = None
    ) -> None:
        """Append one batch; of a transaction where there is a producer."""
        if producer >= 0:
            self.open_transactions.setdefault(producer, self.end)
        records = b"".join(raw_record(delta, value=value) for delta, value in enumerate(values))
        attributes = _TRANSACTIONAL if producer >= 0 else 0
        self._store(records, len(values), attributes, producer, published_ms or now_ms())

    def end_transaction(self, producer: int, *, commit: bool) -> None:
        """Append the marker that ends a producer's transaction."""
        first = self.open_transactions.pop(producer)
        if not commit:
            self.aborted.append((producer, first, self.end))
        marker = raw_record(0, key=b"\0\0\0\1", value=b"\0\0\0\0\0\0")
        self._store(marker, 1, _TRANSACTIONAL | _CONTROL, producer, now_ms())

    def skip_offsets(self, count: int) -> None:
        """Leave a hole, as compaction does."""
        self.end += count

    def corrupt_next(self, values: Sequence[bytes]) -> StoredBatch:
        """Append a batch with a wrong checksum."""
        self.append(values)
        made = self.batches[-1]
        made.data = made.data[:-1] + bytes([made.data[-1] ^ 0xFF])
        return made

    def delete_before(self, offset: int) -> None:
        """Delete whole batches, as retention does."""
        self.batches = [batch for batch in self.batches if batch.end > offset]
        self.start = max(self.start, offset)

    def truncate(self, offset: int) -> None:
        """Go on without what is at an offset and behind it: an unclean election."""
        self.batches = [batch for batch in self.batches if batch.end <= offset]
        self.end = self.batches[-1].end if self.batches else min(self.start, offset)

    def _store(
        self, records: bytes, count: int, attributes: int, producer: int, published_ms: int
    ) -> None:
        made = raw_batch(
            self.end,
            records,
            count,
            attributes=attributes,
            timestamps=(published_ms, published_ms),
            producer=producer,
        )
        end = self.end + count
        is_control = bool(attributes & _CONTROL)
        data = with_epoch(made, self.epoch)
        self.batches.append(
            StoredBatch(self.end, end, data, self.epoch, published_ms, producer, is_control)
        )
        self.end = end

    # ---- reading

    @property
    def last_stable_offset(self) -> int:
        """The first offset of the oldest open transaction, else the end."""
        return min(self.open_transactions.values(), default=self.end)

    def read(self, offset: int, max_bytes: int, *, whole: bool, cut: bool) -> bytes:
        """Batches from an offset on, in so many bytes.

        `whole`: the first however large; `cut`: else its beginning, and not nothing.
        """
        found = b""
        for one in self.batches if offset >= self.local_start else ():
            if one.end <= offset or one.base >= self.last_stable_offset:
                continue
            if found and len(found) + len(one.data) > max_bytes:
                break
            if not found and len(one.data) > max_bytes and not whole:
                return one.data[:max_bytes] if cut else b""
            found += one.data
        return found

    def aborted_since(self, offset: int) -> list[tuple[int, int]]:
        """The aborted transactions that end at an offset or behind it."""
        return [(producer, first) for producer, first, last in self.aborted if last >= offset]

    def offset_at(self, at: int) -> int:
        """The offset of a time, of the beginning or the end; -1 where no record is so young."""
        if at == LATEST:
            return self.end
        if at == EARLIEST:
            return self.start
        if at == EARLIEST_LOCAL:
            return max(self.start, self.local_start)
        return next((batch.base for batch in self.batches if batch.published_ms >= at), -1)

    def epoch_end(self, epoch: int) -> EpochEndOffset:
        """Where an epoch ends: the first offset of the next that wrote anything, or the end."""
        if epoch == self.epoch:
            return EpochEndOffset(0, epoch, self.end)
        before = [batch for batch in self.batches if batch.epoch <= epoch]
        if not before:
            return _NOT_THERE
        return EpochEndOffset(0, before[-1].epoch, before[-1].end)
