"""The tables of a load process: each connection's state, counts of all messages, and problems.

Compiled code fills the tables; Python reads them between two calls.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.compiled import compiled
from odin_ws.bench.histogram import BINS
from odin_ws.bench.shared_tails import Tails

__all__ = [
    "LONGEST_FRAME",
    "TORN",
    "UNKNOWN",
    "Bytes",
    "Ints",
    "OtherFrames",
    "Problem",
    "Tables",
    "hand_over",
]

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

# Used instead of an opcode for bytes that are no frame of a server; the rest of the connection is
# unreadable.
TORN: Final = 255

# Room per connection for an incomplete frame. A batch has 64 KiB of messages and one more message.
LONGEST_FRAME: Final = 128 * 1024

# Bytes for frames that are no messages, from several reads of at most 256 KiB each.
_POST_BYTES: Final = 4 << 20
_SHORTEST_FRAME: Final = 2

# Undisturbed and disturbed connections: the latency of each group is counted separately.
_GROUPS: Final = 2

# No record received yet: any record may be the first.
UNKNOWN: Final = -1


class Problem(IntEnum):
    """Errors that must never happen; each is counted."""

    SEQ_GAP = 0  # a sequence number is missing
    SEQ_AGAIN = 1  # a sequence number is not above the one before
    LOST = 2  # a record of a channel that matches the filter is missing
    DOUBLED = 3  # a record arrived twice, or after a later one of its channel
    DISORDER = 4  # an offset was not above the one before in its partition
    UNWANTED = 5  # the connection has not subscribed to the channel, or the filter does not match
    STRANGE = 6  # a frame that the benchmark does not expect


class OtherFrames(NamedTuple):
    """Frames that are no messages, handled by Python. Shapes of arrays are in brackets."""

    text: Bytes  # [any] the payloads, concatenated
    letters: Ints  # [any, 4] connection, opcode, and the start and end of the payload
    used: Ints  # [2] used length of both arrays

    @classmethod
    def empty(cls) -> OtherFrames:
        """Return an empty buffer for the frames of some reads."""
        return cls(
            np.zeros(_POST_BYTES, np.uint8),
            np.zeros((_POST_BYTES // _SHORTEST_FRAME, 4), np.int64),
            np.zeros(2, np.int64),
        )


def _kinds(starts: Ints, keys: Ints, thresholds: Ints) -> list[int]:
    """Return a number for each connection, equal for equal subscriptions and filters."""
    numbers: dict[tuple[bytes, int], int] = {}
    bounds = pairwise(starts.tolist())
    return [
        numbers.setdefault((keys[start:stop].tobytes(), threshold), len(numbers))
        for (start, stop), threshold in zip(bounds, thresholds.tolist(), strict=True)
    ]


class Tables(NamedTuple):
    """The state of each connection, and the measurements of all. Shapes of arrays are in brackets.

    A connection `c` subscribes to the ascending channels `keys[starts[c]:starts[c + 1]]`; `numbers`
    has the last record number of each channel. Channel k belongs to topic k % topics. `offsets[c,
    topic * partitions + partition]` is the last offset of a partition. Connections of one kind have
    equal subscriptions and filters.
    """

    seq: Ints  # [connections] the last sequence number, 0 before the first
    offsets: Ints  # [connections, topics * partitions] last offset, -1 before any
    starts: Ints  # [connections + 1]
    keys: Ints  # [all subscriptions]
    numbers: Ints  # [all subscriptions] the last record number, UNKNOWN before the first
    kind: Ints  # [connections]
    state: Ints  # [connections] equal for equal offsets and numbers; 0: unknown
    states: Ints  # [1] the number of states
    newest: Ints  # [kinds] the newest state of a kind; the next two have a copy of it
    newest_offsets: Ints  # [kinds, topics * partitions]
    newest_numbers: Ints  # [kinds, most subscriptions of a connection]
    group: Ints  # [connections] 1 for disturbed connections, else 0
    thresholds: Ints  # [connections] the lowest matching remainder, 0 without a filter
    workload: Ints  # [4] topics, partitions, filters, 1 for Server-Sent Events
    received: Ints  # [groups] the number of messages
    volume: Ints  # [1] bytes of messages' frames
    latency: Ints  # [groups, BINS]
    worst: Ints  # [groups] the largest latency in microseconds
    problems: Ints  # [Problem]
    rest: Bytes  # [connections, LONGEST_FRAME] the bytes of an incomplete frame
    rest_length: Ints  # [connections]
    tails: Tails
    other_frames: OtherFrames

    @classmethod
    def empty(  # noqa: PLR0913 -- subscriptions and workload of a run
        cls,
        starts: Ints,
        keys: Ints,
        group: Ints,
        *,
        topics: int,
        partitions: int,
        thresholds: Ints | None = None,
        filters: int = 0,
        events: bool = False,
    ) -> Tables:
        """Return the tables of connections that have received nothing."""
        connections = len(group)
        if thresholds is None:
            thresholds = np.zeros(connections, np.int64)
        kind = _kinds(starts, keys, thresholds)
        kinds = len(set(kind))
        most = int(np.diff(starts).max(initial=0))
        return cls(
            seq=np.zeros(connections, np.int64),
            offsets=np.full((connections, topics * partitions), UNKNOWN, np.int64),
            starts=starts,
            keys=keys,
            numbers=np.full(len(keys), UNKNOWN, np.int64),
            kind=np.array(kind, np.int64),
            state=np.zeros(connections, np.int64),
            states=np.zeros(1, np.int64),
            newest=np.zeros(kinds, np.int64),
            newest_offsets=np.zeros((kinds, topics * partitions), np.int64),
            newest_numbers=np.zeros((kinds, most), np.int64),
            group=group,
            thresholds=thresholds,
            workload=np.array([topics, partitions, filters, events], np.int64),
            received=np.zeros(_GROUPS, np.int64),
            volume=np.zeros(1, np.int64),
            latency=np.zeros((_GROUPS, BINS), np.int64),
            worst=np.zeros(_GROUPS, np.int64),
            problems=np.zeros(len(Problem), np.int64),
            # The kernel allocates memory only at the first write.
            rest=np.zeros((connections, LONGEST_FRAME), np.uint8),
            rest_length=np.zeros(connections, np.int64),
            tails=Tails.empty(),
            other_frames=OtherFrames.empty(),
        )


@compiled
def hand_over(payload: Bytes, connection: int, opcode: int, other_frames: OtherFrames) -> None:
    """Leave a frame that is no message to Python."""
    begin, letter = other_frames.used
    after = begin + len(payload)
    other_frames.text[begin:after] = payload
    other_frames.letters[letter, 0] = connection
    other_frames.letters[letter, 1] = opcode
    other_frames.letters[letter, 2] = begin
    other_frames.letters[letter, 3] = after
    other_frames.used[0] = after
    other_frames.used[1] += 1
