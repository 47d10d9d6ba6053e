"""States: connections that have received equal messages have the same result for a batch.

A batch is checked message by message for the first connection that receives it. Other connections
with equal subscriptions, filter, last offsets and last numbers have the same *state*: if the batch
was right for the first connection, it is right for the others, and its positions and latencies are
noted without checks. Without states a core checks some million messages per second, half of the
server's throughput.

Two connections get the same state by a comparison of all their offsets and numbers, or by the same
batch after the same state. A single message, a short batch or an error makes the state unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from odin_ws.bench.compiled import compiled
from odin_ws.bench.histogram import bin_of
from odin_ws.bench.shared_tails import (
    CHANNEL,
    FROM_STATE,
    KIND,
    NUMBER,
    OFFSET,
    PARTITION,
    PUBLISHED,
    SLOT,
    TAIL_SLOT,
    TO_STATE,
)

if TYPE_CHECKING:
    from odin_ws.bench.tables import Tables

__all__ = ["compare_state", "is_known", "note_batch"]


@compiled
def is_known(slot: int, connection: int, tables: Tables) -> bool:
    """Return whether a batch was right for a connection with the same state."""
    known, state = tables.tails.slots[slot], tables.state[connection]
    return bool(
        state != 0
        and known[TO_STATE] != 0
        and known[FROM_STATE] == state
        and known[KIND] == tables.kind[connection]
    )


@compiled
def note_batch(  # noqa: PLR0913, PLR0917 -- numba has no structures to change
    slot: int, first: int, count: int, connection: int, now_us: int, tables: Tables
) -> None:
    """Note the messages of a known batch."""
    start, group = tables.starts[connection], tables.group[connection]
    tables.received[group] += count
    for message in tables.tails.messages[first : first + count]:
        tables.offsets[connection, message[SLOT]] = message[OFFSET]
        tables.numbers[start + message[TAIL_SLOT]] = message[NUMBER]
        latency = now_us - message[PUBLISHED]
        tables.latency[group, bin_of(latency)] += 1
        tables.worst[group] = max(tables.worst[group], latency)
    tables.state[connection] = tables.tails.slots[slot, TO_STATE]


@compiled
def compare_state(slot: int, first: int, count: int, connection: int, tables: Tables) -> None:
    """Give a connection its state after a batch without an error."""
    known, kind = tables.tails.slots[slot], tables.kind[connection]
    start, stop = tables.starts[connection], tables.starts[connection + 1]
    offsets, numbers = tables.offsets[connection], tables.numbers[start:stop]
    newest_numbers = tables.newest_numbers[kind, : stop - start]
    if not known[TO_STATE]:
        topics, partitions = tables.workload[0], tables.workload[1]
        for message in tables.tails.messages[first : first + count]:
            message[SLOT] = message[CHANNEL] % topics * partitions + message[PARTITION]
            message[TAIL_SLOT] = np.searchsorted(tables.keys[start:stop], message[CHANNEL])
        tables.states[0] += 1
        known[KIND], known[FROM_STATE] = kind, tables.state[connection]
        known[TO_STATE] = tables.newest[kind] = tables.states[0]
        tables.newest_offsets[kind] = offsets
        newest_numbers[:] = numbers
    same = known[KIND] == kind and known[TO_STATE] == tables.newest[kind]
    if (
        same
        and np.all(tables.newest_offsets[kind] == offsets)
        and np.all(newest_numbers == numbers)
    ):
        tables.state[connection] = known[TO_STATE]
    else:
        tables.state[connection] = 0
