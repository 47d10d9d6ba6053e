"""The compiled reader finds each problem, for any split of the bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odin_ws.bench.frame_reader import CLOSE, PING, parse
from odin_ws.bench.histogram import quantiles
from odin_ws.bench.tables import LONGEST_FRAME, TORN, Problem, Tables
from tests.bench.frames import batch, frame, message, octets, packed, tables
from tests.bench.reference import Reference


def problems_of(state: Tables) -> dict[Problem, int]:
    """Return the problems and their counts."""
    return {one: int(state.problems[one]) for one in Problem if state.problems[one]}


def handed_over(state: Tables) -> list[tuple[int, bytes]]:
    """Return opcode and payload of the frames for Python."""
    other_frames = state.other_frames
    return [
        (int(opcode), other_frames.text[begin:end].tobytes())
        for _, opcode, begin, end in other_frames.letters[: other_frames.used[1]]
    ]


def read(state: Tables, *frames: bytes, now_us: int = 0) -> int:
    """Give the first connection some frames at once; return the number of bytes taken."""
    data = octets(b"".join(frames))
    return parse(data, len(data), 0, now_us, state)


def test_messages_in_order_are_counted_without_problems() -> None:
    """The connection receives 100 messages of one channel."""
    state = tables([0])

    taken = read(state, *(message(number, number) for number in range(1, 101)))

    assert taken == sum(len(message(number, number)) for number in range(1, 101))
    assert state.received[0] == 100
    assert problems_of(state) == {}


WRONG = {
    "a sequence number is left out": ((1, 1), (3, 2), {Problem.SEQ_GAP: 1}),
    "a sequence number comes again": ((1, 1), (1, 2), {Problem.SEQ_AGAIN: 1}),
    "three records are left out": ((1, 1), (2, 5), {Problem.LOST: 3}),
    "a record comes again": ((1, 1), (2, 1), {Problem.DOUBLED: 1, Problem.DISORDER: 1}),
    "a record comes late": ((1, 2), (2, 1), {Problem.DOUBLED: 1, Problem.DISORDER: 1}),
}


@pytest.mark.parametrize(("first", "second", "problems"), WRONG.values(), ids=WRONG)
def test_gaps_repetitions_and_disorder_are_found(
    first: tuple[int, int], second: tuple[int, int], problems: dict[Problem, int]
) -> None:
    """Each problem is counted under its own name."""
    state = tables([0])

    read(state, message(*first), message(*second))

    assert problems_of(state) == problems


def test_descending_offsets_in_a_partition_are_disorder() -> None:
    """The two records may be of different channels."""
    state = tables([0, 1])

    read(state, message(1, 1, channel=0, offset=8), message(2, 1, channel=1, offset=7))

    assert problems_of(state) == {Problem.DISORDER: 1}


def test_offsets_of_separate_partitions_have_no_order() -> None:
    """The partitions may be of the same topic or of different topics."""
    state = tables([0, 1, 2], topics=2)

    read(
        state,
        message(1, 1, channel=0, offset=8),
        message(2, 1, channel=2, offset=7, partition=1),
        message(3, 1, channel=1, offset=6),
    )

    assert problems_of(state) == {}


def test_message_of_another_channel_is_unwanted() -> None:
    """The connection has not subscribed to the channel."""
    state = tables([0, 2])

    read(state, message(1, 1, channel=1))

    assert problems_of(state) == {Problem.UNWANTED: 1}


STRANGE = {
    "no position": frame(b'{"seq":1,"data":{"k":0,"n":1,"pub_us":5}}'),
    "no numbers": frame(b'{"seq":1,"pos":"0-1","data":{}}'),
    "a partition there is not": message(1, 1, partition=12),
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_message_without_numbers_of_the_benchmark_is_strange(text: bytes) -> None:
    """The message does not count as received."""
    state = tables([0])

    read(state, text)

    assert problems_of(state) == {Problem.STRANGE: 1}
    assert state.received[0] == 0


TORN_FRAMES = {
    "reserved bits": b"\xa1\x02{}",
    "a compressed ping": b"\xc9\x02{}",
    "a fragment": b"\x01\x02{}",
    "a mask": b"\x81\x82aaaa{}",
    "the middle of a message": message(1, 1)[40:],
    "longer than any": b"\x81\x7f" + (LONGEST_FRAME).to_bytes(8) + b"{",
    "longer than there can be": b"\x81\x7f" + b"\xff" * 8 + b"{",
}


@pytest.mark.parametrize("data", TORN_FRAMES.values(), ids=TORN_FRAMES)
def test_invalid_frame_ends_the_reading(data: bytes) -> None:
    """A server never sends such a frame."""
    state = tables([0])

    taken = read(state, message(1, 1), data, message(2, 2))

    assert taken == len(message(1, 1) + data + message(2, 2))
    assert handed_over(state) == [(TORN, b"")]


def test_messages_are_read_across_any_cut() -> None:
    """The reader takes only complete frames."""
    data = message(1, 1) + message(2, 2, pad=0)
    ends = (0, len(message(1, 1)), len(data))

    for cut in range(len(data) + 1):
        state = tables([0])
        taken = read(state, data[:cut])
        assert taken == max(end for end in ends if end <= cut)
        read(state, data[taken:])
        assert state.received[0] == 2
        assert problems_of(state) == {}


def test_responses_pings_and_closes_are_handed_over() -> None:
    """The frames are handed over in order, between the messages."""
    state = tables([0])
    response = b'{"type":"subscription_ack"}'

    read(state, frame(response), message(1, 1), frame(b"", PING), frame(b"\x03\xf4", CLOSE))

    assert handed_over(state) == [(1, response), (PING, b""), (CLOSE, b"\x03\xf4")]
    assert state.received[0] == 1


def test_latency_is_time_since_pub_us() -> None:
    """Each group has its own histogram."""
    state = tables([0], [0])
    state.group[1] = 1
    for connection, published_us in enumerate((0, 9_000)):
        data = octets(message(1, 1, published_us=published_us))
        parse(data, len(data), connection, 10_000, state)

    assert quantiles(state.latency[0], [1]) == [pytest.approx(10, rel=0.01)]
    assert quantiles(state.latency[1], [1]) == [pytest.approx(1, rel=0.01)]
    assert state.worst.tolist() == [10_000, 1_000]


ANY_MESSAGE = st.builds(
    message,
    st.integers(1, 5),
    st.integers(1, 5),
    partition=st.integers(0, 3),
    channel=st.integers(0, 4),
    offset=st.integers(0, 5),
    pad=st.sampled_from([0, 30, 70_00]),
)
# Payloads that begin like a message or a batch have their own tests; Hypothesis also tries
# constants of code.
HEADS = b'{"seq":', b'{"type":"batch","seq":'
NO_MESSAGE = st.binary(max_size=300).filter(lambda payload: not payload.startswith(HEADS))
ANY_FRAME = ANY_MESSAGE | st.builds(frame, NO_MESSAGE, st.sampled_from([1, 2, PING, CLOSE]))


@given(
    st.lists(ANY_FRAME, max_size=12).map(b"".join),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_reader_agrees_with_reference(data: bytes, sizes: list[int]) -> None:
    """The reader agrees with the model for any split of the bytes."""
    state = tables([0, 1, 3], topics=2, partitions=3)
    reference = Reference([0, 1, 3], topics=2, partitions=3)
    rest = b""
    for size in [*sizes, len(data)]:
        part, data = data[:size], data[size:]
        reference.read(part)
        rest += part
        rest = rest[parse(octets(rest), len(rest), 0, 0, state) :]

    assert rest == reference.rest
    assert handed_over(state) == reference.other_frames
    assert problems_of(state) == {one: count for one, count in reference.problems.items() if count}
    assert state.received[0] == reference.received
    assert state.seq[0] == reference.seq


def test_compressed_messages_are_inflated_and_checked() -> None:
    """The stream has single messages and batches, compressed and uncompressed."""
    state = tables([0])

    data = [
        packed(message(1, 1)),
        packed(batch(2, 2, 3, 4)),
        message(5, 5),
        batch(6, 6, 7),
        packed(message(8, 8)),
    ]
    read(state, *data)

    assert problems_of(state) == {}
    assert handed_over(state) == []
    assert state.received[0] == 8
    assert state.volume[0] == sum(map(len, data))


def test_tail_is_inflated_once_for_all_connections() -> None:
    """On each connection, the tail's messages are compared with earlier ones."""
    state = tables([0], [0], [0])
    for connection, begin in enumerate((1, 1000, 77)):
        state.seq[connection] = begin - 1
        data = octets(packed(batch(begin, 1, 2)) + packed(message(begin + 2, 3)))
        assert parse(data, len(data), connection, 0, state) == len(data)
    assert problems_of(state) == {}
    assert state.received[0] == 9
    assert state.tails.inflated[0] == 2


@pytest.mark.parametrize(("first", "second", "problems"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("pack", [bytes, packed])
def test_problems_in_batches_are_found(
    pack: Callable[[bytes], bytes],
    first: tuple[int, int],
    second: tuple[int, int],
    problems: dict[Problem, int],
) -> None:
    """The messages of a batch are checked like single messages."""
    state = tables([0])
    read(state, *(pack(batch(seq, number)) for seq, number in (first, second)))
    assert problems_of(state) == problems


def test_record_missing_within_a_batch_is_lost() -> None:
    """Each message of a batch is checked, not only the first."""
    state = tables([0])
    read(state, packed(batch(1, 1, 2, 5)), packed(batch(4, 6)))
    assert problems_of(state) == {Problem.LOST: 2}


STRANGE = {
    "no stored block first": b"\xc1\x05hello",
    "an empty message": b"\xc1\x00",
    "no deflate stream": packed(message(1, 1, pad=0))[:40] + b"\xff" * 60,
    "not our record": packed(frame(b'{"seq":1,"type":"message","pos":"0-1","data":{}}')),
}


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
def test_compressed_frame_of_another_format_is_strange(data: bytes) -> None:
    """The reader continues with the next frame."""
    state = tables([0])
    length = data[1] if data[1] < 126 else int.from_bytes(data[2:4])
    whole = data if data[1] < 126 else data[: 4 + length].ljust(4 + length, b"\xff")
    read(state, whole, message(1, 1))
    assert problems_of(state) == {Problem.STRANGE: 1}
    assert state.received[0] == 1


def test_tails_beyond_the_cache_are_inflated_again() -> None:
    """The cache forgets old tails."""
    state = tables([0])
    for number in range(1, 3000):
        read(state, packed(message(number, number, pad=3000 if number % 2 else 10)))
    assert problems_of(state) == {}
    assert state.received[0] == 2999


FIRST_BATCH = packed(batch(1, *range(1, 11)))
NEXT_BATCH = packed(batch(11, *range(11, 21)))

# The changes to a batch of a stream on the way to a connection.
FAULTS = st.sampled_from(["right"] * 6 + ["lost", "doubled", "renumbered", "single"])


@settings(max_examples=50)
@given(st.lists(st.lists(FAULTS, min_size=6, max_size=6), min_size=2, max_size=4))
def test_connections_checked_together_give_results_of_each_alone(
    faults: list[list[str]],
) -> None:
    """A batch that was right for one connection may be wrong for another."""
    together = tables(*([0] for _ in faults))
    alone = [tables([0]) for _ in faults]
    seqs = [1] * len(faults)
    for number in range(6):
        numbers = range(1 + 10 * number, 11 + 10 * number)
        for connection, several in enumerate(faults):
            fault, seq = several[number], seqs[connection]
            data = packed(batch(seq + (fault == "renumbered"), *numbers))
            if fault == "single":
                data = b"".join(message(seq + place, one) for place, one in enumerate(numbers))
            times = {"lost": 0, "doubled": 2}.get(fault, 1)
            seqs[connection] += 10 * times
            for _ in range(times):
                parse(octets(data), len(data), connection, number, together)
                parse(octets(data), len(data), 0, number, alone[connection])
    assert problems_of(together) == Counter(
        sum((Counter(problems_of(one)) for one in alone), Counter())
    )
    assert together.received[0] == sum(one.received[0] for one in alone)
    assert (together.latency == sum(one.latency for one in alone)).all()
    assert together.seq.tolist() == [message.seq[0] for message in alone]
    assert together.numbers.tolist() == [one.numbers[0] for one in alone]
    assert together.offsets.tolist() == [one.offsets[0].tolist() for one in alone]


def test_equal_connections_share_a_state_after_a_right_batch() -> None:
    """Connections with other channels have other states."""
    state = tables([0], [0], [0, 1], [0])
    for connection in range(3):
        parse(octets(FIRST_BATCH), len(FIRST_BATCH), connection, 0, state)
    assert state.state[0] == state.state[1] != 0
    assert state.state[2] == 0
    for connection in range(3):
        parse(octets(NEXT_BATCH), len(NEXT_BATCH), connection, 0, state)
    # Connection 3 has not received the first batch.
    parse(octets(NEXT_BATCH), len(NEXT_BATCH), 3, 0, state)
    assert state.state[0] == state.state[1] != state.state[3]
    assert problems_of(state) == {Problem.SEQ_GAP: 10}


def test_connections_of_other_channels_or_filters_have_another_kind() -> None:
    """A batch that is right for one kind may be wrong for another."""
    state = Tables.empty(
        np.array([0, 1, 2, 4, 5]),
        np.array([0, 0, 0, 1, 0]),
        np.zeros(4, np.int64),
        topics=1,
        partitions=12,
        thresholds=np.array([0, 0, 0, 3]),
        filters=10,
    )
    assert state.kind.tolist() == [0, 0, 1, 2]


def test_the_same_batch_after_other_messages_leads_to_another_state() -> None:
    """One of two connections has received an earlier record of the other channel."""
    state = tables([0, 1], [0, 1])
    before = message(1, 5, channel=1, partition=1)
    parse(octets(before), len(before), 0, 0, state)
    for connection, seq in ((0, 2), (1, 1)):
        data = packed(batch(seq, *range(1, 11)))
        parse(octets(data), len(data), connection, 0, state)
    assert problems_of(state) == {}
    assert state.state[0] != state.state[1]
