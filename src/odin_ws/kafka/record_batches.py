"""Decodes fetched bytes into records; never raises.

Undecodable data becomes a Record with a reason in `invalid`, at the last offset that the data takes
up.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final
from zlib import crc32

import attrs

from odin_ws.kafka.aiokafka_internals import calc_crc32c
from odin_ws.kafka.batch_records import (
    BASE_OFFSET,
    CONTROL,
    ENOUGH,
    HEADER_BYTES,
    MAGIC,
    MAX_RAW_BYTES,
    OVERHEAD_BYTES,
    PADDING,
    UNCOMMITTED,
    BatchHeader,
    ReadProgress,
    read_header,
    read_plain_batches,
    read_records,
)
from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.kafka.message_sets import MIN_MESSAGE_BYTES, read_messages
from odin_ws.kafka.record_headers import NO_NAMES
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = ["Decoded", "read_batches"]

# All formats have length and magic at the same offsets.
_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_MAGIC_AT: Final = 16

# Offset, length and checksum of magic 0 and 1.
_OLD_FRAME: Final = struct.Struct(">qiI")

# The start of the bytes that the checksum covers: in magic 2, in magic 0 and 1.
_COVERED_FROM: Final = 21
_OLD_COVERED_FROM: Final = 16

_MAX_OFFSET: Final = (1 << 63) - 2

# Limit on the offsets that the header of a corrupt batch may claim.
_MAX_LEAP: Final = 1 << 24


@attrs.frozen
class Decoded:
    """The records in the bytes of a partition."""

    records: list[Record]

    next_offset: int
    """The next offset to fetch: after all batches that were decoded or skipped."""

    last_epoch: int = -1
    """The leader epoch of the last complete batch of magic 2; -1 if there is none."""

    corrupt: int | None = None
    """The offset of a batch with a wrong checksum or header, which is neither in `records` nor
    skipped: a second fetch may get it intact. `skip_corrupt` skips it."""

    size: int = attrs.field(default=0, eq=False)
    """The approximate decompressed size of the records."""

    incomplete: bool = False
    """The bytes have only the beginning of a batch, which is larger than the response. Kafka itself
    sends the first batch whole, however large. Also `corrupt` after the largest fetch."""


def read_batches(  # noqa: PLR0913 -- two are how, four are what
    key: TopicPartition,
    data: bytes,
    offset: int,
    aborted: Iterable[tuple[int, int]] | None,
    *,
    skip_corrupt: bool = False,
    is_largest: bool = False,
    log_end: int | None = None,
    header_names: AbstractSet[str] = NO_NAMES,
) -> Decoded:
    """Decode the fetched bytes of a partition from `offset` on.

    The last batch may be truncated: the next fetch has it again. Offsets without a record are
    skipped: transaction markers and records removed by compaction. After about 64 MiB of records,
    or a corrupt batch, the rest is left for the next fetch.

    Args:
        key: The partition.
        data: The bytes that the broker sent.
        offset: The first wanted offset; a broker sends the whole batch that contains it.
        aborted: The aborted transactions in the response: producer id and first offset. Their
            records are left out.
        skip_corrupt: Skip the first corrupt batch, as a Record with a reason.
        is_largest: No larger fetch is possible: a batch that is truncated at the beginning of the
            bytes counts as corrupt.
        log_end: The offset after the log's last record, from the same response. A batch behind a
            gap and beyond it is corrupt.
        header_names: The headers that records keep.
    """
    reader = _Reader(key, data, offset, aborted or (), header_names)
    return reader.read(skip_corrupt=skip_corrupt, is_largest=is_largest, log_end=log_end)


class _Corrupt(Exception):
    """The batch has a wrong checksum or length."""


class _Reader:
    """Reads the batches of one response."""

    def __init__(
        self,
        key: TopicPartition,
        data: bytes,
        offset: int,
        aborted: Iterable[tuple[int, int]],
        header_names: AbstractSet[str],
    ) -> None:
        self._key = key
        self._header_names = header_names
        self._data = data
        self._view = memoryview(data + PADDING)
        self._offset = offset
        self._log_end: int | None = None
        self._aborted = deque(sorted(aborted, key=lambda transaction: transaction[1]))
        # Records of these producers are left out until their transaction marker.
        self._aborted_producers: set[int] = set()
        self._special_bits = UNCOMMITTED if self._aborted else CONTROL
        self._records: list[Record] = []
        self._epoch = -1
        self._spent = 0

    def read(self, *, skip_corrupt: bool, is_largest: bool, log_end: int | None) -> Decoded:
        """See read_batches."""
        if log_end is not None and log_end > self._offset:
            self._log_end = log_end
        first, at, corrupt = self._offset, 0, None
        # Stops at a corrupt batch: its length may be wrong.
        while corrupt is None:
            place = ReadProgress(at, self._offset, self._epoch, self._spent)
            at, self._offset, self._epoch, self._spent = read_plain_batches(
                self._key,
                self._view,
                place,
                self._special_bits,
                self._log_end,
                self._records,
                self._header_names,
            )
            end = self._end(at)
            if end is None or self._spent >= ENOUGH:
                break
            try:
                self._read_batch(at, end)
            except _Corrupt:
                corrupt = self._offset
            else:
                at = end
        if corrupt is None and at and self._offset == first:
            # Only batches before the wanted offset: a retry would get the same response forever.
            corrupt, at = first, 0
        incomplete = corrupt is None and not at and bool(self._data)
        reason = InvalidBatch.CORRUPT_BATCH
        if incomplete and is_largest:
            # Or its length is wrong, which the checksum does not cover.
            corrupt, reason = first, InvalidBatch.BATCH_TOO_LARGE
        if corrupt is not None and skip_corrupt:
            self._skip_corrupt(at, reason)
            corrupt = None
        return Decoded(self._records, self._offset, self._epoch, corrupt, self._spent, incomplete)

    def _end(self, at: int) -> int | None:
        """Return the end of the batch at `at`; `at` for an invalid length; None if truncated."""
        left = len(self._data) - at
        if left < OVERHEAD_BYTES:
            return None
        (length,) = _LENGTH.unpack_from(self._data, at + _LENGTH_AT)
        if length < MIN_MESSAGE_BYTES:
            return at
        end: int = at + OVERHEAD_BYTES + length
        return end if end <= len(self._data) else None

    def _read_batch(self, at: int, end: int) -> None:
        """Decode one batch. Raises _Corrupt."""
        magic = self._data[at + _MAGIC_AT] if end > at else None
        if magic == MAGIC and end - at >= HEADER_BYTES:
            header = self._header(at, end)
            last = self._last_of(header, end)
            if last >= self._offset and self._is_wanted(header, last):
                self._add(
                    partial(
                        read_records,
                        self._key,
                        self._view[at:end],
                        header,
                        self._offset,
                        self._header_names,
                    ),
                    self._data[at:end],
                    last,
                    header.max_timestamp,
                )
                if self._records:
                    last = max(last, self._records[-1].offset)
        elif magic in {0, 1}:
            # The offset of a compressed set is that of its last message.
            last = self._checked_offset(at, end)
            if last >= self._offset:
                view = self._view[at:end]
                self._add(
                    partial(read_messages, self._key, view, self._offset), self._data[at:end], last
                )
        else:
            raise _Corrupt
        self._offset = max(self._offset, last + 1)

    def _header(self, at: int, end: int) -> BatchHeader:
        """Return the header of a batch of magic 2 after its checksum is verified."""
        header = read_header(self._data, at)
        if calc_crc32c(self._view[at + _COVERED_FROM : end]) != header.checksum:
            raise _Corrupt
        # The checksum does not cover the base offset.
        if not 0 <= header.base_offset <= _MAX_OFFSET - max(0, header.last_delta):
            raise _Corrupt
        if self._is_misplaced(header, end):
            raise _Corrupt
        self._epoch = header.epoch
        return header

    def _is_misplaced(self, header: BatchHeader, end: int) -> bool:
        """Return whether a batch behind a gap has a wrong first offset.

        Then it ends after the log, or the next two batches have lower offsets. If only the next
        one has, the next one is wrong.
        """
        base = header.base_offset
        if base <= self._offset:
            return False
        # Records may be written after the leader has read the log's end, but not behind a gap.
        if self._log_end is not None and base + max(1, header.size) > self._log_end:
            return True
        if self._next_base(end, base) is None:
            return False
        second = self._end(end)
        return (
            second is None
            or len(self._data) - second < HEADER_BYTES
            or self._next_base(second, base) is not None
        )

    def _last_of(self, header: BatchHeader, end: int) -> int:
        """Return the last offset that a batch takes up.

        The header may claim more than the batch has records for. Compaction removes records, but
        the offsets end before the next batch, and with the log.
        """
        base = header.base_offset
        last: int = base + max(0, header.last_delta)
        following = self._next_base(end, last)
        if following is not None:
            last = following - 1
        if self._log_end is not None:
            last = min(last, self._log_end - 1)
        return max(base, last)

    def _next_base(self, at: int, last: int) -> int | None:
        """Return the first offset of an intact batch at `at` that is wanted and not after `last`.

        Batches are in the order of their offsets: the batch before `at` claims this offset wrongly.
        """
        end = self._end(at)
        if end is None or end - at < HEADER_BYTES:
            return None
        (base,) = BASE_OFFSET.unpack_from(self._data, at)
        if not self._offset <= base <= last or self._data[at + _MAGIC_AT] != MAGIC:
            return None
        checksum = read_header(self._data, at).checksum
        intact = calc_crc32c(self._view[at + _COVERED_FROM : end]) == checksum
        return int(base) if intact else None

    def _checked_offset(self, at: int, end: int) -> int:
        """Return the offset of a message of magic 0 or 1 after its checksum is verified."""
        offset, _, checksum = _OLD_FRAME.unpack_from(self._data, at)
        if crc32(self._view[at + _OLD_COVERED_FROM : end]) != checksum:
            raise _Corrupt
        if not 0 <= offset <= _MAX_OFFSET:
            raise _Corrupt
        return int(offset)

    def _add(
        self,
        read: Callable[[], tuple[list[Record], int]],
        raw: bytes,
        last: int,
        timestamp: int = -1,
    ) -> None:
        """Add the records of a batch, or an invalid record."""
        try:
            records, cost = read()
        except BatchDecodeError as bad:
            self._spent += bad.cost
            self._invalid(last, bad.reason, raw, timestamp)
        else:
            self._records += records
            self._spent += cost

    def _is_wanted(self, header: BatchHeader, last: int) -> bool:
        """Return whether a batch has records to deliver; tracks transactions."""
        if self._aborted or self._aborted_producers:
            while self._aborted and self._aborted[0][1] <= last:
                self._aborted_producers.add(self._aborted.popleft()[0])
            if header.is_control:
                # A commit or an abort: either ends the producer's transaction.
                self._aborted_producers.discard(header.producer)
            elif header.is_transactional and header.producer in self._aborted_producers:
                return False
        return not header.is_control

    def _skip_corrupt(self, at: int, reason: InvalidBatch) -> None:
        """Skip a corrupt batch: by its header if that is plausible, but no batch after it.

        Without a plausible header up to the next batch; if that is unknown too, by one offset.
        """
        first = self._offset
        if first > _MAX_OFFSET:
            # No record can be there.
            return
        lasts = (self._claimed_last(at), self._last_before_next(at))
        plausible = [last for last in lasts if 0 <= last - first < _MAX_LEAP]
        last = min(plausible, default=first)
        self._invalid(last, reason, self._data[at : at + MAX_RAW_BYTES])

    def _claimed_last(self, at: int) -> int:
        """Return the last offset that the header of a corrupt batch claims; -1 for none."""
        if len(self._data) - at < HEADER_BYTES:
            return -1
        header = read_header(self._data, at)
        delta = header.last_delta if header.magic == MAGIC else 0
        last = min(header.base_offset + delta, _MAX_OFFSET) if delta >= 0 else -1
        return last if self._log_end is None else min(last, self._log_end - 1)

    def _last_before_next(self, at: int) -> int:
        """Return the offset before the batch after a corrupt one; -1 if that is unknown."""
        end = self._end(at)
        following = None if end is None else self._next_base(end, _MAX_OFFSET)
        return -1 if following is None else following - 1

    def _invalid(self, last: int, reason: InvalidBatch, raw: bytes, timestamp: int = -1) -> None:
        value = raw[:MAX_RAW_BYTES]
        self._records.append(Record(*self._key, last, timestamp, None, value, reason))
        self._offset = last + 1
