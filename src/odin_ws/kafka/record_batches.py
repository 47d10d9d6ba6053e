"""Decodes fetched bytes into records; nothing else may come out than records and reasons.

Whatever a broker or a publisher sends, records come out and nothing is raised: what cannot be
decoded comes out as a Record with a reason in `invalid`, at the last offset that it takes up.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final
from zlib import crc32

import attrs

from odin_ws.kafka.aiokafka_internals import calc_crc32c
from odin_ws.kafka.batch_records import (
    CONTROL,
    ENOUGH,
    HEADER_BYTES,
    MAGIC,
    MAX_RAW_BYTES,
    OVERHEAD_BYTES,
    PADDING,
    UNCOMMITTED,
    BatchHeader,
    Usual,
    read_header,
    read_records,
    read_usual,
)
from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.kafka.message_sets import MIN_MESSAGE_BYTES, read_messages
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = ["Decoded", "read_batches"]

# All formats have length and magic at the same place.
_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_MAGIC_AT: Final = 16

# Offset, length and checksum of magic 0 and 1.
_OLD_FRAME: Final = struct.Struct(">qiI")

# From where on the checksum covers a batch: in magic 2, in magic 0 and 1.
_COVERED_FROM: Final = 21
_OLD_COVERED_FROM: Final = 16

_MAX_OFFSET: Final = (1 << 63) - 2

# How far the header of a corrupt batch is believed about the offsets that it takes up.
_MAX_LEAP: Final = 1 << 24


@attrs.frozen
class Decoded:
    """The records in the bytes of a partition."""

    records: list[Record]

    next_offset: int
    """The offset to fetch next: behind all batches that were decoded or passed."""

    last_epoch: int = -1
    """The leader epoch of the last complete batch of magic 2; -1 where there is none."""

    corrupt: int | None = None
    """The offset of a batch whose checksum is wrong or whose header makes no sense, and which is
    neither in `records` nor passed: fetched again it may be right. `skip_corrupt` passes it."""

    size: int = attrs.field(default=0, eq=False)
    """About the bytes that the records take, decompressed."""

    incomplete: bool = False
    """The bytes have the beginning of a batch and no complete one: the broker cuts its answer off
    below the size of this batch. Kafka itself sends the first batch whole, however large."""


def read_batches(
    key: TopicPartition,
    data: bytes,
    offset: int,
    aborted: Iterable[tuple[int, int]] | None,
    *,
    skip_corrupt: bool = False,
) -> Decoded:
    """Decode what was fetched of a partition from `offset` on.

    The last batch may be cut off: it comes again. Offsets without a record are passed: the end of
    a transaction, or a record that compaction took out of a batch. More than some 64 MiB of
    records are left for the next fetch, as is everything behind a corrupt batch.

    Args:
        key: The partition.
        data: The bytes that the broker sent.
        offset: The first offset that is wanted; a broker sends the whole batch that has it.
        aborted: The aborted transactions in it, as the broker gives them: the producer's id, and
            the first offset. Their records are left out.
        skip_corrupt: Pass the first corrupt batch, as a Record with a reason.
    """
    reader = _Reader(key, data, offset, aborted or ())
    return reader.read(skip_corrupt=skip_corrupt)


class _Corrupt(Exception):
    """The batch is not as it was written, or not where the framing says."""


class _Reader:
    """Reads the batches of one answer."""

    def __init__(
        self, key: TopicPartition, data: bytes, offset: int, aborted: Iterable[tuple[int, int]]
    ) -> None:
        self._key = key
        self._data = data
        self._view = memoryview(data + PADDING)
        self._offset = offset
        self._aborted = deque(sorted(aborted, key=lambda one: one[1]))
        # Records of these producers are left out, up to the marker that ends their transaction.
        self._aborted_producers: set[int] = set()
        self._unusual = UNCOMMITTED if self._aborted else CONTROL
        self._records: list[Record] = []
        self._epoch = -1
        self._spent = 0

    def read(self, *, skip_corrupt: bool) -> Decoded:
        """See read_batches."""
        first, at, corrupt = self._offset, 0, None
        # Behind a corrupt batch nothing is read: its length may be what is wrong.
        while corrupt is None:
            place = Usual(at, self._offset, self._epoch, self._spent)
            at, self._offset, self._epoch, self._spent = read_usual(
                self._key, self._view, place, self._unusual, self._records
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
            # Only batches before the wanted offset: the same answer would come for ever.
            corrupt, at = first, 0
        incomplete = corrupt is None and not at and bool(self._data)
        if corrupt is not None and skip_corrupt:
            self._skip_corrupt(at)
            corrupt = None
        return Decoded(self._records, self._offset, self._epoch, corrupt, self._spent, incomplete)

    def _end(self, at: int) -> int | None:
        """The end of the batch at `at`; `at` for a length that cannot be; None: it is cut off."""
        left = len(self._data) - at
        if left < OVERHEAD_BYTES:
            return None
        (length,) = _LENGTH.unpack_from(self._data, at + _LENGTH_AT)
        if length < MIN_MESSAGE_BYTES:
            return at
        end: int = at + OVERHEAD_BYTES + length
        return end if end <= len(self._data) else None

    def _read_batch(self, at: int, end: int) -> None:
        """Read one batch. Raises _Corrupt."""
        magic = self._data[at + _MAGIC_AT] if end > at else None
        if magic == MAGIC and end - at >= HEADER_BYTES:
            header = self._header(at, end)
            last = max(header.base_offset, header.base_offset + header.last_delta)
            if last >= self._offset and self._is_wanted(header, last):
                self._add(
                    partial(read_records, self._key, self._view[at:end], header, self._offset),
                    self._data[at:end],
                    last,
                    header.max_timestamp,
                )
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
        """The header of a batch of magic 2, once the batch is known to be whole."""
        header = read_header(self._data, at)
        if calc_crc32c(self._view[at + _COVERED_FROM : end]) != header.checksum:
            raise _Corrupt
        # The checksum does not cover the first.
        if not 0 <= header.base_offset <= _MAX_OFFSET - max(0, header.last_delta):
            raise _Corrupt
        self._epoch = header.epoch
        return header

    def _checked_offset(self, at: int, end: int) -> int:
        """The offset of a message of magic 0 or 1, once it is known to be whole."""
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
        """Add a batch's records, or its reason."""
        try:
            records, cost = read()
        except BatchDecodeError as bad:
            self._spent += bad.cost
            self._invalid(last, bad.reason, raw, timestamp)
        else:
            self._records += records
            self._spent += cost

    def _is_wanted(self, header: BatchHeader, last: int) -> bool:
        """Whether a batch has records to deliver; keeps track of transactions."""
        if self._aborted or self._aborted_producers:
            while self._aborted and self._aborted[0][1] <= last:
                self._aborted_producers.add(self._aborted.popleft()[0])
            if header.is_control:
                # A commit or an abort: either ends the producer's transaction.
                self._aborted_producers.discard(header.producer)
            elif header.is_transactional and header.producer in self._aborted_producers:
                return False
        return not header.is_control

    def _skip_corrupt(self, at: int) -> None:
        """Pass a corrupt batch: by its header as far as that can be, else by one offset."""
        data, last = self._data, self._offset
        if last > _MAX_OFFSET:
            # No record can be there.
            return
        if len(data) - at >= HEADER_BYTES:
            header = read_header(data, at)
            delta = header.last_delta if header.magic == MAGIC else 0
            if delta >= 0 and 0 <= header.base_offset + delta - last < _MAX_LEAP:
                last = header.base_offset + delta
        last = min(last, _MAX_OFFSET)
        self._invalid(last, InvalidBatch.CORRUPT_BATCH, data[at : at + MAX_RAW_BYTES])

    def _invalid(self, last: int, reason: InvalidBatch, raw: bytes, timestamp: int = -1) -> None:
        value = raw[:MAX_RAW_BYTES]
        self._records.append(Record(*self._key, last, timestamp, None, value, reason))
        self._offset = last + 1
