"""What many connections receive, checked message by message, in compiled code.

`parse` takes a connection apart into frames and holds each message against what came before it;
`drain` does so for all connections of an epoll set and returns when Python has something to do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.histogram import BINS, bin_of
from odin_ws.bench.jit import compiled
from odin_ws.bench.shared_tails import (
    CHANNEL,
    NUMBER,
    OFFSET,
    PARTITION,
    PUBLISHED,
    Tails,
    find_tail,
)
from odin_ws.bench.text_search import find, integer, is_at

__all__ = [
    "CLOSE",
    "LONGEST_FRAME",
    "PING",
    "TEXT",
    "TORN",
    "UNKNOWN",
    "Post",
    "Problem",
    "Tables",
    "parse",
]

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
# No opcode: what came is no frame of a server, so the rest of the connection has no meaning.
TORN: Final = 255

# A frame that has begun to arrive is kept for its connection until the rest is there. A batch has
# 64 KiB of messages and one more.
LONGEST_FRAME: Final = 128 * 1024

# Room for frames that are no messages: for several reads, which bring 256 KiB at most.
_POST_BYTES: Final = 4 << 20

# Disturbed connections are not in the others' latency.
_GROUPS: Final = 2

# Nothing has come yet, so anything may be the first.
UNKNOWN: Final = -1

# RFC 6455, 5.2.
_FIN: Final = 0x80
_RSV1: Final = 0x40
_OPCODE: Final = 0x0F
_LENGTH: Final = 0x7F
_MEDIUM: Final = 126
_LONG: Final = 127
_SHORTEST_FRAME: Final = 2
_LONGEST_HEADER: Final = 10

_PACKED: Final = True

# RFC 1951, 3.2.4: the header of a stored block, in which a compressed message has its own head.
_STORED_BYTES: Final = 5

# The fields that are looked for: `{"seq":`, `"pos":"`, and our own records' `"k":`, `"n":` and
# `"pub_us":`, in this order.
_SEQ: Final = np.frombuffer(b'{"seq":', np.uint8)
_BATCH: Final = np.frombuffer(b'{"type":"batch","seq":', np.uint8)
_POS: Final = np.frombuffer(b'"pos":"', np.uint8)
_CHANNEL: Final = np.frombuffer(b'"k":', np.uint8)
_NUMBER: Final = np.frombuffer(b'"n":', np.uint8)
_PUBLISHED: Final = np.frombuffer(b'"pub_us":', np.uint8)


class Problem(IntEnum):
    """What must never happen; each is counted."""

    SEQ_GAP = 0  # a sequence number was left out
    SEQ_AGAIN = 1  # a sequence number was not above the one before
    LOST = 2  # a record of a channel was left out
    DOUBLED = 3  # a record came again, or after a later one of its channel
    DISORDER = 4  # an offset was not above the one before in its partition
    UNWANTED = 5  # nobody asked for this channel here
    STRANGE = 6  # a frame that this benchmark did not cause


class Post(NamedTuple):
    """Frames that are no messages, for Python to read. Shapes in brackets."""

    text: Bytes  # [any] the payloads, one after another
    letters: Ints  # [any, 4] connection, opcode, and where its payload begins and ends
    used: Ints  # [2] of each of these

    @classmethod
    def empty(cls) -> Post:
        """Room for what some reads can bring."""
        return cls(
            np.zeros(_POST_BYTES, np.uint8),
            np.zeros((_POST_BYTES // _SHORTEST_FRAME, 4), np.int64),
            np.zeros(2, np.int64),
        )


class Tables(NamedTuple):
    """What is known of each connection, and what was measured of all. Shapes in brackets.

    A connection follows the channels `keys[starts[c]:starts[c + 1]]`, ascending; `numbers` has the
    last record number of each. Channel k belongs to topic k % topics; the last offset of a
    partition is in `offsets[c, topic * partitions + partition]`.
    """

    seq: Ints  # [connections] the last one, 0 before the first
    offsets: Ints  # [connections, topics * partitions] the last one, -1 before the first
    starts: Ints  # [connections + 1]
    keys: Ints  # [all subscriptions]
    numbers: Ints  # [all subscriptions] the last one, UNKNOWN before the first
    group: Ints  # [connections] 1 for those that are disturbed, else 0
    workload: Ints  # [2] topics, partitions
    received: Ints  # [groups] messages
    volume: Ints  # [1] bytes of messages' frames
    latency: Ints  # [groups, BINS]
    worst: Ints  # [groups] the largest latency in microseconds
    problems: Ints  # [Problem]
    rest: Bytes  # [connections, LONGEST_FRAME] a frame that has begun
    rest_length: Ints  # [connections]
    tails: Tails
    post: Post

    @classmethod
    def empty(
        cls, starts: Ints, keys: Ints, group: Ints, *, topics: int, partitions: int
    ) -> Tables:
        """Tables of connections that have received nothing."""
        connections = len(group)
        return cls(
            seq=np.zeros(connections, np.int64),
            offsets=np.full((connections, topics * partitions), UNKNOWN, np.int64),
            starts=starts,
            keys=keys,
            numbers=np.full(len(keys), UNKNOWN, np.int64),
            group=group,
            workload=np.array([topics, partitions], np.int64),
            received=np.zeros(_GROUPS, np.int64),
            volume=np.zeros(1, np.int64),
            latency=np.zeros((_GROUPS, BINS), np.int64),
            worst=np.zeros(_GROUPS, np.int64),
            problems=np.zeros(len(Problem), np.int64),
            # Memory that is never touched is never there.
            rest=np.zeros((connections, LONGEST_FRAME), np.uint8),
            rest_length=np.zeros(connections, np.int64),
            tails=Tails.empty(),
            post=Post.empty(),
        )


@compiled
def parse(data: Bytes, end: int, connection: int, now_us: int, tables: Tables) -> int:
    """Read the whole frames of `data[:end]`; returns how many bytes that were.

    Of data that is not a server's frames all is taken, and a letter with TORN is posted.
    """
    place = 0
    while end - place >= _SHORTEST_FRAME:
        opcode = data[place] & _OPCODE
        length = np.int64(data[place + 1])
        begin = place + _SHORTEST_FRAME
        # Whole frames, unmasked, and texts that may be compressed: the server sends nothing else.
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
            _hand_over(data[:0], connection, TORN, tables.post)
            return end
        if end - begin < length:
            break
        after = begin + int(length)
        payload = data[begin:after]
        if packed:
            tables.volume[0] += after - place
            _check_packed(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, _SEQ):
            tables.volume[0] += after - place
            _check(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, _BATCH):
            tables.volume[0] += after - place
            seq, tail = integer(payload, len(_BATCH))
            _check_tail(seq, payload[tail:], connection, now_us, tables, packed)
        else:
            _hand_over(payload, connection, opcode, tables.post)
        place = after
    return place


@compiled
def _hand_over(payload: Bytes, connection: int, opcode: int, post: Post) -> None:
    begin, letter = post.used
    after = begin + len(payload)
    post.text[begin:after] = payload
    post.letters[letter, 0] = connection
    post.letters[letter, 1] = opcode
    post.letters[letter, 2] = begin
    post.letters[letter, 3] = after
    post.used[0] = after
    post.used[1] += 1


@compiled
def _check_packed(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Hold the messages of a compressed frame against what came before them."""
    # The head of a client's own is in a stored block, which is not the last one.
    length = np.int64(payload[1]) if len(payload) > _STORED_BYTES else np.int64(0)
    after = _STORED_BYTES + int(length)
    if not length or payload[0] or payload[2] or payload[3] != 255 - length or payload[4] != 255:  # noqa: PLR2004
        tables.problems[Problem.STRANGE] += 1
        return
    head = payload[_STORED_BYTES:after]
    batch = is_at(head, 0, _BATCH)
    seq, place = integer(head, len(_BATCH) if batch else len(_SEQ))
    if place > len(head) or not (batch or is_at(head, 0, _SEQ)):
        tables.problems[Problem.STRANGE] += 1
        return
    _check_tail(seq, payload[after:], connection, now_us, tables, _PACKED)


@compiled
def _check_tail(  # noqa: PLR0913, PLR0917 -- numba has no structures to change
    seq: int,
    tail: Bytes,
    connection: int,
    now_us: int,
    tables: Tables,
    packed: bool,  # noqa: FBT001 -- numba has no keyword-only arguments
) -> None:
    """Hold the messages of a shared tail against what came before them."""
    first, count = find_tail(tail, tables.tails, packed)
    if count == 0:
        tables.problems[Problem.STRANGE] += 1
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


@compiled
def _check(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Hold one message against what came before it."""
    seq, place = integer(payload, len(_SEQ))
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


@compiled
def _check_message(
    seq: int, record: tuple[int, int, int, int, int], connection: int, now_us: int, tables: Tables
) -> None:
    """Hold the number and the fields of one message against those before it."""
    partition, offset, channel, number, published_us = record
    topics, partitions = tables.workload
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
    # Most follow one channel or a few dozen.
    place = start + np.searchsorted(tables.keys[start:stop], channel)
    if place == stop or tables.keys[place] != channel:
        tables.problems[Problem.UNWANTED] += 1
        return
    last = tables.numbers[place]
    if last == UNKNOWN:
        tables.numbers[place] = number
    elif number <= last:
        tables.problems[Problem.DOUBLED] += 1
    else:
        tables.problems[Problem.LOST] += number - last - 1
        tables.numbers[place] = number
