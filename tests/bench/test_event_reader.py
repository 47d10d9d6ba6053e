"""The compiled reader of Server-Sent Events: it finds what the reader of frames finds."""

from __future__ import annotations

import pytest

from odin_ws.bench.event_reader import parse_events
from odin_ws.bench.reader import LONGEST_FRAME, TEXT, TORN, Problem, Tables
from tests.bench.frames import batch, message, octets, tables

ID = b"id:1,odin.trades::AB\n"


def event(single: bytes, head: bytes = ID) -> bytes:
    """A message's frame as an event."""
    return head + b"data:" + single[single.index(b"{") :] + b"\n\n"


def read(state: Tables, data: bytes) -> int:
    """Give the first connection some bytes; returns how many were taken."""
    return parse_events(octets(data), len(data), 0, 0, state)


def found(state: Tables) -> dict[Problem, int]:
    """The problems there were."""
    return {one: int(state.problems[one]) for one in Problem if state.problems[one]}


def handed_over(state: Tables) -> list[tuple[int, bytes]]:
    """Opcode and payload of what was handed over."""
    other_frames = state.other_frames
    return [
        (int(opcode), other_frames.text[begin:end].tobytes())
        for _, opcode, begin, end in other_frames.letters[: other_frames.used[1]]
    ]


def test_messages_and_batches_in_order_are_no_problem() -> None:
    """All are counted, with the bytes of their events."""
    state = tables([0])
    data = event(message(1, 1)) + event(batch(2, 2, 3), b"event:batch\n" + ID)
    assert read(state, data) == len(data)
    assert found(state) == {}
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
    """A sequence number or a record that is left out has its own name."""
    state = tables([0])
    read(state, event(message(1, 1)) + event(second))
    assert problem in found(state)


def test_messages_without_an_id_are_a_problem() -> None:
    """A client could not resume behind them."""
    state = tables([0])
    read(state, event(message(1, 1), b""))
    assert found(state) == {Problem.STRANGE: 1}


def test_notices_are_for_python_and_comments_for_nobody() -> None:
    """A reconnect time and a heartbeat have no data."""
    state = tables([0])
    ack = b'{"type":"subscription_ack"}'
    data = b"retry:3141\n\n:\n\nevent:subscription_ack\n" + ID + b"data:" + ack + b"\n\n"
    assert read(state, data) == len(data)
    assert handed_over(state) == [(TEXT, ack)]
    assert found(state) == {}


def test_events_that_are_cut_anywhere_are_read_whole() -> None:
    """Only whole events are taken; the rest is read with what follows."""
    data = event(message(1, 1)) + b":\n\n" + event(message(2, 2, pad=0))
    for cut in range(len(data) + 1):
        state = tables([0])
        taken = read(state, data[:cut])
        read(state, data[taken:])
        assert state.received[0] == 2
        assert found(state) == {}


def test_an_endless_event_ends_the_reading() -> None:
    """No event of a server is that long."""
    state = tables([0])
    data = b"data:" + b"x" * LONGEST_FRAME
    assert read(state, data) == len(data)
    assert handed_over(state) == [(TORN, b"")]
