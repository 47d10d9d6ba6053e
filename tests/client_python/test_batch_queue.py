"""The queue between the asyncio shell and its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from odin_ws_client import Disconnected
from odin_ws_client.asyncio.batch_queue import BatchQueue
from odin_ws_client.core.items import Checkpoint, Item

Batch = Sequence[Item | Checkpoint]


def batch(number: int) -> Batch:
    """One that can be told from others."""
    return (Disconnected(number, "", None),)


def test_who_puts_waits_for_room() -> None:
    """A full queue takes the next batch when one has been taken out, in their order."""

    async def main() -> None:
        queue = BatchQueue(2)
        for number in range(2):
            await queue.put(batch(number))
        third = asyncio.create_task(queue.put(batch(2)))
        await asyncio.sleep(0)
        assert not third.done()
        assert await queue.get() == batch(0)
        await third
        assert [await queue.get(), await queue.get()] == [batch(1), batch(2)]

    asyncio.run(main())


def test_a_closed_queue_gives_what_is_left_and_then_none() -> None:
    """Also to one who waits already."""

    async def main() -> None:
        queue = BatchQueue(2)
        await queue.put(batch(0))
        queue.close()
        assert [await queue.get(), await queue.get(), await queue.get()] == [batch(0), None, None]
        empty = BatchQueue(1)
        waiting = asyncio.create_task(empty.get())
        await asyncio.sleep(0)
        empty.close()
        assert await waiting is None

    asyncio.run(main())


def test_a_cancelled_wait_takes_nothing() -> None:
    """The batch that comes then is there for the next one."""

    async def main() -> None:
        queue = BatchQueue(1)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        await queue.put(batch(0))
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await queue.get() == batch(0)

    asyncio.run(main())
