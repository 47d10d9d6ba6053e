"""Checks what many connections receive, message by message, in compiled code.

`parse` splits the bytes of a connection into frames and checks each message against earlier ones.
`socket_drain.drain` does so for all connections of an epoll set.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.compiled import compiled, find, integer, is_at
from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.histogram import BINS, bin_of
from odin_ws.bench.shared_states import compare_state, is_known, note_batch
from odin_ws.bench.shared_tails import (
    CHANNEL,
    NUMBER,
    OFFSET,
    PARTITION,
    PUBLISHED,
    Tails,
    find_tail,
)

__all__ = [
    "BATCH",
    "CLOSE",
    "LONGEST_FRAME",
    "PING",
    "SEQ",
    "TEXT",
    "TORN",
    "UNKNOWN",
    "OtherFrames",
    "Problem",
    "Tables",
    "check",
    "check_tail",
    "hand_over",
    "parse",
]

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
# No opcode: the bytes are no frame of a server, so the rest of the connection is meaningless.
TORN: Final = 255

# An incomplete frame is kept per connection until the rest arrives. A batch has 64 KiB of messages
# and one more.
LONGEST_FRAME: Final = 128 * 1024

# Room for frames that are no messages: of several reads, of at most 256 KiB each.
_POST_BYTES: Final = 4 << 20

# Disturbed connections do not count in the latency of the others.
_GROUPS: Final = 2

# No record received yet, so any may be the first.
UNKNOWN: Final = -1

# To compare states pays for batches of this size.
_LONG_BATCH: Final = 8

# RFC 6455, 5.2.
_FIN: Final = 0x80
_RSV1: Final = 0x40
_OPCODE: Final = 0x0F
_MEDIUM: Final = 126
_LONG: Final = 127
_SHORTEST_FRAME: Final = 2
_LONGEST_HEADER: Final = 10

_PACKED: Final = True

# RFC 1951, 3.2.4: the header of a stored block, which has the client's own head of a compressed
# frame.
_STORED_BYTES: Final = 5

# The fields to find: `{"seq":`, `"pos":"`, and those of our own records, `"k":`, `"n":` and
# `"pub_us":`, in this order.
SEQ: Final = np.frombuffer(b'{"seq":', np.uint8)
BATCH: Final = np.frombuffer(b'{"type":"batch","seq":', np.uint8)
_POS: Final = np.frombuffer(b'"pos":"', np.uint8)
_CHANNEL: Final = np.frombuffer(b'"k":', np.uint8)
_NUMBER: Final = np.frombuffer(b'"n":', np.uint8)
_PUBLISHED: Final = np.frombuffer(b'"pub_us":', np.uint8)


class Problem(IntEnum):
    """Errors that must never happen; each is counted."""

    SEQ_GAP = 0  # a sequence number is missing
    SEQ_AGAIN = 1  # a sequence number is not above the one before
    LOST = 2  # a record of a channel is missing, though it meets the filter
    DOUBLED = 3  # a record came again, or after a later one of its channel
    DISORDER = 4  # an offset was not above the one before in its partition
    UNWANTED = 5  # the connection has not subscribed to the channel, or its filter is not met
    STRANGE = 6  # a frame that the benchmark does not expect


class OtherFrames(NamedTuple):
    """Frames that are no messages, handled by Python. Shapes in brackets."""

    text: Bytes  # [any] the payloads, concatenated
    letters: Ints  # [any, 4] connection, opcode, and where its payload begins and ends
    used: Ints  # [2] used length of both

    @classmethod
    def empty(cls) -> OtherFrames:
        """Return an empty buffer for the frames of some reads."""
        return cls(
            np.zeros(_POST_BYTES, np.uint8),
            np.zeros((_POST_BYTES // _SHORTEST_FRAME, 4), np.int64),
            np.zeros(2, np.int64),
        )


class Tables(NamedTuple):
    """The state of each connection, and the measurements of all. Shapes in brackets.

    A connection subscribes to the channels `keys[starts[c]:starts[c + 1]]`, ascending; `numbers`
    has the last record number of each. Channel k belongs to topic k % topics; the last offset of a
    partition is in `offsets[c, topic * partitions + partition]`. Connections of the same kind have
    the same subscriptions and filter.
    """

    seq: Ints  # [connections] the last one, 0 before the first
    offsets: Ints  # [connections, topics * partitions] the last one, -1 before the first
    starts: Ints  # [connections + 1]
    keys: Ints  # [all subscriptions]
    numbers: Ints  # [all subscriptions] the last one, UNKNOWN before the first
    kind: Ints  # [connections]
    state: Ints  # [connections] equal for connections with equal offsets and numbers; 0: not known
    states: Ints  # [1] the number of states
    newest: Ints  # [kinds] the newest state of a kind, of which there is a copy in the next two:
    newest_offsets: Ints  # [kinds, topics * partitions]
    newest_numbers: Ints  # [kinds, most subscriptions of a connection]
    group: Ints  # [connections] 1 for those that are disturbed, else 0
    thresholds: Ints  # [connections] the lowest remainder that meets its filter, 0 without one
    workload: Ints  # [4] topics, partitions, filters, 1 for Server-Sent Events
    received: Ints  # [groups] messages
    volume: Ints  # [1] bytes of messages' frames
    latency: Ints  # [groups, BINS]
    worst: Ints  # [groups] the largest latency in microseconds
    problems: Ints  # [Problem]
    rest: Bytes  # [connections, LONGEST_FRAME] an incomplete frame
    rest_length: Ints  # [connections]
    tails: Tails
    other_frames: OtherFrames

    @classmethod
    def empty(  # noqa: PLR0913 -- what a run is about
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
        kinds: dict[tuple[bytes, int], int] = {}
        kind = [
            kinds.setdefault((keys[start:stop].tobytes(), threshold), len(kinds))
            for (start, stop), threshold in zip(
                pairwise(starts.tolist()), thresholds.tolist(), strict=True
            )
        ]
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
            newest=np.zeros(len(kinds), np.int64),
            newest_offsets=np.zeros((len(kinds), topics * partitions), np.int64),
            newest_numbers=np.zeros((len(kinds), most), np.int64),
            group=group,
            thresholds=thresholds,
            workload=np.array([topics, partitions, filters, events], np.int64),
            received=np.zeros(_GROUPS, np.int64),
            volume=np.zeros(1, np.int64),
            latency=np.zeros((_GROUPS, BINS), np.int64),
            worst=np.zeros(_GROUPS, np.int64),
            problems=np.zeros(len(Problem), np.int64),
            # Memory that is never touched is never allocated.
            rest=np.zeros((connections, LONGEST_FRAME), np.uint8),
            rest_length=np.zeros(connections, np.int64),
            tails=Tails.empty(),
            other_frames=OtherFrames.empty(),
        )


@compiled
def parse(data: Bytes, end: int, connection: int, now_us: int, tables: Tables) -> int:
    """Process the whole frames of `data[:end]`; returns how many bytes they have.

    If the data is not a server's frames, consumes all of it and adds an entry with TORN.
    """
    place = 0
    while end - place >= _SHORTEST_FRAME:
        opcode = data[place] & _OPCODE
        length = np.int64(data[place + 1])
        begin = place + _SHORTEST_FRAME
        # Whole, unmasked frames with texts, possibly compressed: the server sends no others.
        packed = data[place] == _FIN | _RSV1 | TEXT
        torn = (data[place] != _FIN | opcode and not packed) or length > _LONG
        if length in (_MEDIUM, _LONG):
            octets = 2 if length == _MEDIUM else 8
            if end - begin < octets:
                break
            length = np.int64(0)
            for octet in data[begin : begin + octets]:
                length = length << 8 | np.int64(octet)
            begin += octets
        if torn or length < 0 or length > LONGEST_FRAME - _LONGEST_HEADER:
            hand_over(data[:0], connection, TORN, tables.other_frames)
            return end
        if end - begin < length:
            break
        after = begin + int(length)
        payload = data[begin:after]
        if packed:
            tables.volume[0] += after - place
            _check_packed(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, SEQ):
            tables.volume[0] += after - place
            check(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, BATCH):
            tables.volume[0] += after - place
            seq, tail = integer(payload, len(BATCH))
            check_tail(seq, payload[tail:], connection, now_us, tables, packed)
        else:
            hand_over(payload, connection, opcode, tables.other_frames)
        place = after
    return place


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


@compiled
def _check_packed(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Check the messages of a compressed frame against earlier ones."""
    # The client's own head is in a stored block, which is not the last block.
    length = np.int64(payload[1]) if len(payload) > _STORED_BYTES else np.int64(0)
    after = _STORED_BYTES + int(length)
    if not length or payload[0] or payload[2] or payload[3] != 255 - length or payload[4] != 255:  # noqa: PLR2004
        tables.problems[Problem.STRANGE] += 1
        return
    head = payload[_STORED_BYTES:after]
    batch = is_at(head, 0, BATCH)
    seq, place = integer(head, len(BATCH) if batch else len(SEQ))
    if place > len(head) or not (batch or is_at(head, 0, SEQ)):
        tables.problems[Problem.STRANGE] += 1
        return
    check_tail(seq, payload[after:], connection, now_us, tables, _PACKED)


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
    place, first, count = find_tail(tail, tables.tails, packed)
    if count == 0:
        tables.problems[Problem.STRANGE] += 1
    before = tables.problems.sum() if count >= _LONG_BATCH else 0
    follows = count >= _LONG_BATCH and seq == tables.seq[connection] + 1
    if follows and is_known(place, connection, tables):
        tables.seq[connection] += count
        note_batch(place, first, count, connection, now_us, tables)
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
        compare_state(place, first, count, connection, tables)
    else:
        tables.state[connection] = 0


@compiled
def check(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Check one message against earlier ones."""
    seq, place = integer(payload, len(SEQ))
    partition, place = integer(payload, find(payload, place, _POS))
    offset, place = integer(payload, place + 1)
    channel, place = integer(payload, find(payload, place, _CHANNEL))
    number, place = integer(payload, find(payload, place, _NUMBER))
    published_us, place = integer(payload, find(payload, place, _PUBLISHED))
    if place > len(payload):
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
    place = start + np.searchsorted(tables.keys[start:stop], channel)
    if place == stop or tables.keys[place] != channel:
        tables.problems[Problem.UNWANTED] += 1
        return
    filters, threshold = tables.workload[2], tables.thresholds[connection]
    if filters and number % filters < threshold:
        tables.problems[Problem.UNWANTED] += 1
    last = tables.numbers[place]
    if last == UNKNOWN:
        tables.numbers[place] = number
    elif number <= last:
        tables.problems[Problem.DOUBLED] += 1
    else:
        between = matched(number - 1, filters, threshold) - matched(last, filters, threshold)
        tables.problems[Problem.LOST] += between
        tables.numbers[place] = number
