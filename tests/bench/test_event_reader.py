"""The compiled reader of Server-Sent Events finds the same problems as the reader of frames."""

from __future__ import annotations

import pytest

from odin_ws.bench.event_reader import parse_events
from odin_ws.bench.frame_reader import TEXT
from odin_ws.bench.tables import LONGEST_FRAME, TORN, Problem, Tables
from tests.bench.frames import batch, message, octets, tables

ID = b"id:1,odin.trades::AB\n"


def event(single: bytes, head: bytes = ID) -> bytes:
    """Return a message's frame as an event."""
    return head + b"data:" + single[single.index(b"{") :] + b"\n\n"


def read(state: Tables, data: bytes) -> int:
    """Give the first connection some bytes; return the number of bytes taken."""
    return parse_events(octets(data), len(data), 0, 0, state)


def problems_of(state: Tables) -> dict[Problem, int]:
    """Return the problems and their counts."""
    return {one: int(state.problems[one]) for one in Problem if state.problems[one]}


def handed_over(state: Tables) -> list[tuple[int, bytes]]:
    """Return opcode and payload of the items for Python."""
    other_frames = state.other_frames
    return [
        (int(opcode), other_frames.text[begin:end].tobytes())
        for _, opcode, begin, end in other_frames.letters[: other_frames.used[1]]
    ]


def test_messages_and_batches_in_order_are_no_problem() -> None:
    """All messages are counted, with the bytes of their events."""
    state = tables([0])
    data = event(message(1, 1)) + event(batch(2, 2, 3), b"event:batch\n" + ID)
    assert read(state, data) == len(data)
    assert problems_of(state) == {}
    assert state.received[0] == 3
    assert state.volume[0] == len(data)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (message(3, 2), Problem.SEQ_GAP),
        (message(2, 4), Problem.LOST),
        (batch(2, 5), Problem.LOST),
    ],
)
def test_missing_messages_are_found(second: bytes, problem: Problem) -> None:
    """A missing sequence number and a missing record are different problems."""
    state = tables([0])
    read(state, event(message(1, 1)) + event(second))
    assert problem in problems_of(state)


def test_message_without_id_is_strange() -> None:
    """Without an id a client could not resume after the message."""
    state = tables([0])
    read(state, event(message(1, 1), b""))
    assert problems_of(state) == {Problem.STRANGE: 1}


def test_notices_are_handed_over_and_comments_skipped() -> None:
    """A reconnect time and a heartbeat have no data."""
    state = tables([0])
    ack = b'{"type":"subscription_ack"}'
    data = b"retry:3141\n\n:\n\nevent:subscription_ack\n" + ID + b"data:" + ack + b"\n\n"
    assert read(state, data) == len(data)
    assert handed_over(state) == [(TEXT, ack)]
    assert problems_of(state) == {}


def test_events_are_read_across_any_cut() -> None:
    """The reader takes only complete events."""
    data = event(message(1, 1)) + b":\n\n" + event(message(2, 2, pad=0))
    for cut in range(len(data) + 1):
        state = tables([0])
        taken = read(state, data[:cut])
        read(state, data[taken:])
        assert state.received[0] == 2
        assert problems_of(state) == {}


def test_endless_event_ends_the_reading() -> None:
    """A server never sends such an event."""
    state = tables([0])
    data = b"data:" + b"x" * LONGEST_FRAME
    assert read(state, data) == len(data)
    assert handed_over(state) == [(TORN, b"")]
