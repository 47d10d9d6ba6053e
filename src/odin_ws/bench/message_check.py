"""Checks each message of a connection against earlier ones, in compiled code.

Sequence numbers must be consecutive, offsets must rise in each partition, and no record of a
channel may be missing or repeated.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from odin_ws.bench.compiled import compiled, find, integer
from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.histogram import bin_of
from odin_ws.bench.shared_states import compare_state, is_known, note_batch
from odin_ws.bench.shared_tails import (
    CHANNEL,
    NUMBER,
    OFFSET,
    PARTITION,
    PUBLISHED,
    find_tail,
)
from odin_ws.bench.tables import UNKNOWN, Bytes, Problem, Tables

__all__ = ["BATCH", "SEQ", "check", "check_tail"]

# Minimum size of a batch for comparing states: checking a smaller batch costs less.
_LONG_BATCH: Final = 8

# The fields to find, in this order: `{"seq":`, `"pos":"`, and in the benchmark's records `"k":`,
# `"n":` and `"pub_us":`.
SEQ: Final = np.frombuffer(b'{"seq":', np.uint8)
BATCH: Final = np.frombuffer(b'{"type":"batch","seq":', np.uint8)
_POS: Final = np.frombuffer(b'"pos":"', np.uint8)
_CHANNEL: Final = np.frombuffer(b'"k":', np.uint8)
_NUMBER: Final = np.frombuffer(b'"n":', np.uint8)
_PUBLISHED: Final = np.frombuffer(b'"pub_us":', np.uint8)


@compiled
def check_tail(  # noqa: PLR0913, PLR0917 -- numba has no structures to change
    seq: int,
    tail: Bytes,
    connection: int,
    now_us: int,
    tables: Tables,
    packed: bool,  # noqa: FBT001 -- numba has no keyword-only arguments
) -> None:
    """Check the messages of a shared tail against earlier ones."""
    at, first, count = find_tail(tail, tables.tails, packed)
    if count == 0:
        tables.problems[Problem.STRANGE] += 1
    before = tables.problems.sum() if count >= _LONG_BATCH else 0
    follows = count >= _LONG_BATCH and seq == tables.seq[connection] + 1
    if follows and is_known(at, connection, tables):
        tables.seq[connection] += count
        note_batch(at, first, count, connection, now_us, tables)
        return
    for number in range(count):
        message = tables.tails.messages[first + number]
        _check_message(
            seq + number,
            (
                message[PARTITION],
                message[OFFSET],
                message[CHANNEL],
                message[NUMBER],
                message[PUBLISHED],
            ),
            connection,
            now_us,
            tables,
        )
    if count >= _LONG_BATCH and tables.problems.sum() == before:
        compare_state(at, first, count, connection, tables)
    else:
        tables.state[connection] = 0


@compiled
def check(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Check one message against earlier ones."""
    seq, at = integer(payload, len(SEQ))
    partition, at = integer(payload, find(payload, at, _POS))
    offset, at = integer(payload, at + 1)
    channel, at = integer(payload, find(payload, at, _CHANNEL))
    number, at = integer(payload, find(payload, at, _NUMBER))
    published_us, at = integer(payload, find(payload, at, _PUBLISHED))
    if at > len(payload):
        tables.problems[Problem.STRANGE] += 1
        return
    record = partition, offset, channel, number, published_us
    _check_message(seq, record, connection, now_us, tables)
    tables.state[connection] = 0


@compiled
def _check_message(
    seq: int, record: tuple[int, int, int, int, int], connection: int, now_us: int, tables: Tables
) -> None:
    """Check the sequence number and the fields of one message against earlier ones."""
    partition, offset, channel, number, published_us = record
    topics, partitions = tables.workload[0], tables.workload[1]
    if partition >= partitions:
        tables.problems[Problem.STRANGE] += 1
        return
    _check_seq(seq, connection, tables)
    slot = channel % topics * partitions + partition
    if offset <= tables.offsets[connection, slot]:
        tables.problems[Problem.DISORDER] += 1
    else:
        tables.offsets[connection, slot] = offset
    _check_number(channel, number, connection, tables)
    group = tables.group[connection]
    tables.received[group] += 1
    latency = now_us - published_us
    tables.latency[group, bin_of(latency)] += 1
    tables.worst[group] = max(tables.worst[group], latency)


@compiled
def _check_seq(seq: int, connection: int, tables: Tables) -> None:
    last = tables.seq[connection]
    if seq <= last:
        tables.problems[Problem.SEQ_AGAIN] += 1
        return
    tables.problems[Problem.SEQ_GAP] += seq - last - 1
    tables.seq[connection] = seq


@compiled
def _check_number(channel: int, number: int, connection: int, tables: Tables) -> None:
    start, stop = tables.starts[connection], tables.starts[connection + 1]
    # Most connections subscribe to one channel or a few dozen.
    at = start + np.searchsorted(tables.keys[start:stop], channel)
    if at == stop or tables.keys[at] != channel:
        tables.problems[Problem.UNWANTED] += 1
        return
    filters, threshold = tables.workload[2], tables.thresholds[connection]
    if filters and number % filters < threshold:
        tables.problems[Problem.UNWANTED] += 1
    last = tables.numbers[at]
    if last == UNKNOWN:
        tables.numbers[at] = number
    elif number <= last:
        tables.problems[Problem.DOUBLED] += 1
    else:
        between = matched(number - 1, filters, threshold) - matched(last, filters, threshold)
        tables.problems[Problem.LOST] += between
        tables.numbers[at] = number
