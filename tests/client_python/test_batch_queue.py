"""The queue between a shell and the task that iterates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from odin_ws_client import Disconnected
from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.items import Checkpoint, Item

Batch = Sequence[Item | Checkpoint]


def batch(number: int) -> Batch:
    """One that can be told from others."""
    return (Disconnected(number, "", None),)


def queue_of(size: int, on_overflow: Callable[[], None] = lambda: None) -> BatchQueue:
    """A queue with room for so many, and twice as many while an answer is awaited."""
    return BatchQueue(asyncio.Event, on_overflow, size=size, most=2 * size)


def test_put_waits_for_room() -> None:
    """A full queue accepts the next batch after one has been removed, in order."""

    async def main() -> None:
        queue = queue_of(2)
        for number in range(2):
            await queue.put(batch(number))
        third = asyncio.create_task(queue.put(batch(2)))
        await asyncio.sleep(0)
        assert not third.done()
        assert await queue.get() == batch(0)
        await third
        assert [await queue.get(), await queue.get()] == [batch(1), batch(2)]

    asyncio.run(main())


def test_closed_queue_returns_remaining_batches_then_none() -> None:
    """Also to a task that already waits."""

    async def main() -> None:
        queue = queue_of(2)
        await queue.put(batch(0))
        queue.close()
        assert [await queue.get(), await queue.get(), await queue.get()] == [batch(0), None, None]
        empty = queue_of(1)
        waiting = asyncio.create_task(empty.get())
        await asyncio.sleep(0)
        empty.close()
        assert await waiting is None

    asyncio.run(main())


def test_cancelled_get_loses_no_batch() -> None:
    """The batch that arrives afterwards goes to the next caller."""

    async def main() -> None:
        queue = queue_of(1)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        await queue.put(batch(0))
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await queue.get() == batch(0)

    asyncio.run(main())


def test_queue_grows_while_a_response_is_awaited() -> None:
    """The response may be behind unread items; beyond a limit the waiting call fails."""

    async def main() -> None:
        reported: list[str] = []
        queue = queue_of(1, lambda: reported.append("overflow"))
        await queue.put(batch(0))
        second = asyncio.create_task(queue.put(batch(1)))
        await asyncio.sleep(0)
        assert not second.done()
        with queue.response_awaited():
            await second
            third = asyncio.create_task(queue.put(batch(2)))
            await asyncio.sleep(0)
            assert (third.done(), reported) == (False, ["overflow"])
        assert [await queue.get() for _ in range(2)] == [batch(0), batch(1)]
        await third
        assert await queue.get() == batch(2)

    asyncio.run(main())
