"""A worker as a real process, played by small programs."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
import trio

from odin_ws.workers.child import (
    DRAIN,
    STOP,
    CannotStart,
    Child,
    NoResponse,
    RequestNotSent,
    open_child,
)

PATIENCE = 30

# Answers every request on its ops socket with what it was told so far and its own facts.
OBEDIENT = """
    import os, select, socket, sys
    ops = socket.socket(fileno=int(sys.argv[sys.argv.index("--ops-fd") + 1]))
    told = b""
    while True:
        ready, _, _ = select.select([ops, 0], [], [])
        if 0 in ready:
            order = os.read(0, 10)
            told += order
            if b"s" in order or not order:
                sys.exit(7)
        if ops in ready:
            caller, _ = ops.accept()
            caller.recv(4096)
            facts = f"{told.decode()} {os.getpgid(0) == os.getpid()} {sys.argv[2]}".encode()
            head = b"HTTP/1.1 503 Busy\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(facts)
            caller.sendall(head + facts)
            caller.close()
"""

DEAF = """
    import signal, time
    while True:
        time.sleep(1)
"""


def program(tmp_path: Path, text: str) -> AbstractAsyncContextManager[Child]:
    """Run a program as worker 3."""
    file = tmp_path / "worker.py"
    file.write_text(dedent(text), "utf-8")
    return open_child([sys.executable, str(file)], os.environ, 3)


async def test_a_worker_is_asked_and_told(tmp_path: Path) -> None:
    """It gets its number and its orders, is asked as soon as it lives, and has its own group."""
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, OBEDIENT) as child:
            answer = await child.request("/health")
            assert (answer.status, answer.text.strip()) == (503, "True 3")
            await child.send_command(DRAIN)
            while (await child.request("/")).text != "d True 3":
                pass
            await child.send_command(STOP)
            assert await child.wait() == 7
            # Nobody listens any more, and nobody minds.
            await child.send_command(STOP)
            with pytest.raises(NoResponse):
                await child.request("/health")


async def test_leaving_stops_the_worker(tmp_path: Path) -> None:
    """Also when the block is cancelled, there is no process left."""
    with trio.fail_after(PATIENCE):
        with trio.CancelScope() as scope:
            async with program(tmp_path, OBEDIENT) as child:
                await child.request("/health")
                scope.cancel()
        assert not psutil.pid_exists(child.pid)
        assert await child.wait() == 7


async def test_who_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that takes no orders ends all the same."""
    monkeypatch.setattr("odin_ws.workers.child._STOP_SECONDS", 0.1)
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, DEAF) as child:
            pass
        assert await child.wait() == -signal.SIGKILL


async def test_a_worker_that_dies_breaks_off_the_question(tmp_path: Path) -> None:
    """Whoever waits for its answer is told that there is none."""
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, DEAF) as child:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect_no_answer, child)
                await trio.testing.wait_all_tasks_blocked()
                child.kill()
            assert await child.wait() == -signal.SIGKILL


async def _expect_no_answer(child: Child) -> None:
    with pytest.raises(NoResponse):
        await child.request("/metrics")


async def test_the_place_of_a_dead_worker_can_be_taken(tmp_path: Path) -> None:
    """What the one before left of its socket is no obstacle."""
    with trio.fail_after(PATIENCE):
        for _ in range(2):
            async with program(tmp_path, OBEDIENT) as child:
                assert (await child.request("/health")).status == 503


async def test_question_without_descriptors_says_nothing_of_the_worker(tmp_path: Path) -> None:
    """RequestNotSent is raised, and the next request succeeds."""
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, OBEDIENT) as child:
            await child.request("/health")
            with no_more_descriptors(), pytest.raises(RequestNotSent):
                await child.request("/health")
            assert (await child.request("/health")).status == 503
            child.kill()
            await child.wait()
            with pytest.raises(NoResponse) as gone:
                await child.request("/health")
            assert not isinstance(gone.value, RequestNotSent)


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open nothing."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_program_that_does_not_exist_is_told(tmp_path: Path) -> None:
    """The reason is the system's own."""
    with pytest.raises(CannotStart, match="No such file or directory"):
        async with open_child([str(tmp_path / "nothing")], os.environ, 1):
            pytest.fail("it runs")
