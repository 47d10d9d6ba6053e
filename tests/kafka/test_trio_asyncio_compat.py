"""asyncio under Trio on every supported Python, and when the patch can be removed."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from odin_ws.kafka.trio_asyncio_compat import (
    PATCHED_RELEASE,
    aio_as_trio,
    open_loop,
    trio_as_aio,
)

ROOT = Path(__file__).parents[2]


def test_trio_asyncio_has_no_newer_release_pinned() -> None:
    """Try a newer trio-asyncio without the patch, on 3.14."""
    pinned = re.search(
        r"^trio_asyncio==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )

    assert pinned is not None
    assert pinned.group(1) == PATCHED_RELEASE, (
        "trio-asyncio has a new release: if it supports Python 3.14, remove "
        "odin_ws.kafka.trio_asyncio_compat; if not, check the patch and move PATCHED_RELEASE"
    )


@pytest.mark.processes
def test_import_raises_no_warning() -> None:
    """On any supported Python, deprecations included."""
    command = [sys.executable, "-W", "error", "-c", "import odin_ws.kafka.asyncio_bridge"]

    subprocess.run(command, check=True)


def test_asyncio_has_no_restored_names_after_the_import() -> None:
    """Python 3.14 removed them."""
    removed = sys.version_info >= (3, 14)

    assert hasattr(asyncio, "AbstractChildWatcher") is not removed
    assert hasattr(asyncio.events, "BaseDefaultEventLoopPolicy") is not removed


async def test_tasks_of_two_loops_see_their_own_loop() -> None:
    """Interleaved tasks have their own loop and current task, and they end."""
    seen: dict[str, list[bool]] = {"first": [], "second": []}

    async def look(name: str, loop: Any) -> None:
        for _ in range(3):
            task = asyncio.current_task()
            seen[name].append(
                asyncio.get_running_loop() is loop
                and task is not None
                and task.get_loop() is loop
                and task in asyncio.all_tasks()
            )
            await asyncio.sleep(0)

    async def run(name: str) -> None:
        async with open_loop() as loop:
            await aio_as_trio(look)(name, loop)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "first")
            nursery.start_soon(run, "second")

    assert seen == {"first": [True] * 3, "second": [True] * 3}


async def test_trio_code_beside_a_loop_has_no_running_loop() -> None:
    """Trio tasks see no running loop while a loop waits."""
    waiting = trio.Event()

    async def outside() -> None:
        await waiting.wait()
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        # C code asks the thread, which trio-asyncio's functions do not stand before.
        with pytest.raises((RuntimeError, AttributeError)):
            _ = asyncio.Future()

    async def inside() -> None:
        waiting.set()
        await asyncio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outside)
        async with open_loop():
            await aio_as_trio(inside)()


async def test_calls_cross_in_both_directions() -> None:
    """Results and errors are returned unchanged."""

    async def divide(by: int) -> float:
        await trio.lowlevel.checkpoint()
        return 1 / by

    async def in_asyncio(by: int) -> Any:
        async with asyncio.timeout(5):
            return await trio_as_aio(divide)(by)

    async with open_loop():
        assert await aio_as_trio(in_asyncio)(2) == 0.5
        with pytest.raises(ZeroDivisionError):
            await aio_as_trio(in_asyncio)(0)


async def test_cancelling_a_call_cancels_its_task() -> None:
    """Only the asyncio task in the cancelled scope."""
    ended: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append(f"{name} cancelled")
            raise
        ended.append(f"{name} done")

    async with open_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(aio_as_trio(wait), "short", 0.05)
        with trio.move_on_after(0.01):
            await aio_as_trio(wait)("long", 60)

    assert ended == ["long cancelled", "short done"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks before 3.12")
async def test_reader_callbacks_can_start_tasks_eagerly() -> None:
    """A callback of add_reader runs in its loop."""
    steps: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[None]] = []

    async def step() -> None:
        steps.append(asyncio.get_running_loop())

    receiving, sending = socket.socketpair()
    with receiving, sending, trio.fail_after(5):
        async with open_loop() as loop:
            called = trio.Event()

            def read() -> None:
                receiving.recv(1)
                options: dict[str, Any] = {"eager_start": True}
                tasks.append(asyncio.Task(step(), loop=loop, **options))
                called.set()

            loop.add_reader(receiving, read)
            sending.send(b"x")
            await called.wait()
            loop.remove_reader(receiving)

            assert steps == [loop]
