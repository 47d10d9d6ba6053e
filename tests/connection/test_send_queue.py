"""The send queue writes everything in order, and ends with a whole last frame."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.protocol.frames import close_frame
from tests.connection.send_queues import CLOSE, GRACE, Sender, frame, numbers
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time
from tests.wire_decoder import frames

# ---- everything is sent, in order


@settings(max_examples=examples(150))
@given(
    writes=st.lists(st.binary(max_size=60) | st.just(b"x" * 70_000), max_size=20),
    rooms=st.lists(st.integers(1, 80_000) | st.integers(1, 50), max_size=30),
    at_most=st.none() | st.integers(20_000, 80_000),
)
@example(writes=[b"abc", b"", b"defg"], rooms=[1], at_most=1)
def test_failing_16_partial_writes_keep_all_bytes_in_order(
    writes: list[bytes], rooms: list[int], at_most: int | None
) -> None:
    """No byte is lost, duplicated or moved, however few the kernel accepts."""

    async def main(_: MockClock) -> None:
        async with trio.open_nursery() as nursery:
            sender = Sender(nursery, room=0, limit=1 << 30)
            sender.transport.at_most = at_most
            todo = list(rooms)
            for data in writes:
                sender.send_queue.write(data)
                if todo:
                    sender.transport.make_room(todo.pop())
                    await trio.lowlevel.checkpoint()
            assert sender.send_queue.backlog == sum(map(len, writes)) - len(sender.transport.sent)
            sender.transport.make_room(1 << 30)
        assert sender.transport.sent == b"".join(writes)
        assert sender.send_queue.backlog == 0
        assert sender.send_queue.bytes_sent == len(sender.transport.sent)
        assert not sender.slow_at

    in_virtual_time(main)


async def test_accepted_write_wakes_no_task(autojump_clock: MockClock) -> None:
    """The fast path is one call to the kernel."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery)
        for number in range(5):
            sender.send_queue.write(frame(number))
        assert numbers(sender.transport.sent) == [0, 1, 2, 3, 4]
        assert sender.transport.sends == 5
        assert sender.drains == 0
        assert sender.send_queue.backlog == 0


async def test_second_drain_is_an_error(autojump_clock: MockClock) -> None:
    """It would be a second writer on one socket."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        for number in range(5):
            sender.send_queue.write(frame(number))
        assert sender.drains == 1
        sender.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert numbers(sender.transport.sent) == [0, 1, 2, 3, 4]
        sender.transport.room = 0
        sender.send_queue.write(frame(5))
        assert sender.drains == 2
        sender.transport.make_room(1000)
    assert numbers(sender.transport.sent) == [0, 1, 2, 3, 4, 5]


async def test_small_waiting_writes_are_joined(
    autojump_clock: MockClock,
) -> None:
    """A hundred waiting messages need one system call."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=0, limit=1 << 20)
        for number in range(100):
            sender.send_queue.write(frame(number))
        sender.transport.make_room(1 << 20)
    assert numbers(sender.transport.sent) == list(range(100))
    # The write that found no room, and one for all.
    assert sender.transport.sends == 2


# ---- the end


async def test_finish_with_a_flush_sends_all_then_the_last_frame(
    autojump_clock: MockClock,
) -> None:
    """Queued messages precede the close frame."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        for number in range(3):
            sender.send_queue.write(frame(number))
        sender.send_queue.finish(CLOSE, flush=True)
        sender.send_queue.write(frame(3))
        await trio.sleep(2 * GRACE)
        sender.transport.make_room(1000)
    *sent, last = frames(bytes(sender.transport.sent))
    assert len(sent) == 3
    assert last[1] == (1008, "slow")
    # Who waits for the peer to take the last bytes has set a deadline of its own.
    assert not sender.slow_at


@settings(max_examples=examples(100))
@given(
    sizes=st.lists(st.integers(9, 300) | st.just(70_000), min_size=1, max_size=10),
    rooms=st.lists(st.integers(0, 400), min_size=1, max_size=10),
    flush=st.booleans(),
)
def test_failing_16_a_last_frame_never_follows_half_of_another(
    sizes: list[int], rooms: list[int], *, flush: bool
) -> None:
    """After any partial write, whole frames and then the last one arrive."""

    async def main(_: MockClock) -> None:
        async with trio.open_nursery() as nursery:
            sender = Sender(nursery, room=rooms[0], limit=1 << 30)
            todo = list(rooms[1:])
            for number, size in enumerate(sizes):
                sender.send_queue.write(frame(number, size))
                if todo:
                    sender.transport.make_room(todo.pop())
                    await wait_all_tasks_blocked()
            sender.send_queue.finish(CLOSE, flush=flush)
            sender.transport.make_room(1 << 30)
        *sent, last = frames(bytes(sender.transport.sent))
        assert last[1] == (1008, "slow")
        texts = [text for _, text in sent]
        written = [frames(frame(number, size))[0][1] for number, size in enumerate(sizes)]
        assert texts == written[: len(texts)]
        assert len(texts) == len(sizes) or not flush
        assert sender.send_queue.backlog == 0

    in_virtual_time(main)


async def test_finish_without_a_flush_discards_unsent_frames(
    autojump_clock: MockClock,
) -> None:
    """The close frame is the next one that a slow client reads."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        for number in range(5):
            sender.send_queue.write(frame(number))
        sender.send_queue.finish(CLOSE, flush=False)
        assert sender.send_queue.backlog == len(frame(0)) - 5 + len(CLOSE)
        sender.transport.make_room(1000)
    assert bytes(sender.transport.sent) == frame(0) + CLOSE


async def test_finish_of_an_empty_queue_sends_the_last_frame_at_once(
    autojump_clock: MockClock,
) -> None:
    """Without a task, if the kernel accepts it."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery)
        sender.send_queue.finish(CLOSE, flush=True)
        assert bytes(sender.transport.sent) == CLOSE


async def test_writes_after_the_end_are_ignored(autojump_clock: MockClock) -> None:
    """Messages, pings and a second close, queued or not."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        sender.send_queue.write(frame(0))
        sender.send_queue.finish(CLOSE, flush=True)
        sender.send_queue.write(frame(1))
        sender.send_queue.finish(close_frame(1012, "again"), flush=True)
        sender.transport.make_room(1000)
        await wait_all_tasks_blocked()
        sender.send_queue.write(frame(2))
        sender.send_queue.finish(close_frame(1012, "again"), flush=True)
    assert bytes(sender.transport.sent) == frame(0) + CLOSE


async def test_writes_to_a_broken_connection_are_ignored(autojump_clock: MockClock) -> None:
    """The dispatcher gets no exception; the reader ends the connection."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery)
        sender.transport.break_off()
        sender.send_queue.write(frame(0))
        sender.send_queue.write(frame(1))
        sender.send_queue.finish(CLOSE, flush=True)
        assert sender.transport.sends == 1
        assert sender.send_queue.backlog == 0
        assert sender.drains == 0
        assert not sender.slow_at


async def test_broken_connection_ends_the_drain(
    autojump_clock: MockClock,
) -> None:
    """Nothing is left in the queue, and the client is not slow."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, room=5)
        for number in range(3):
            sender.send_queue.write(frame(number))
        sender.transport.break_off()
        await wait_all_tasks_blocked()
        sender.send_queue.write(frame(3))
        assert sender.send_queue.backlog == 0
        await trio.sleep(2 * GRACE)
        assert not sender.slow_at
    assert bytes(sender.transport.sent) == frame(0)[:5]
