"""One worker as a real process; small programs take the place of the server."""

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

pytestmark = pytest.mark.processes

PATIENCE = 30

# Responds to every request on its ops socket with the commands so far and its own facts.
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


async def test_worker_gets_requests_and_commands(tmp_path: Path) -> None:
    """The worker gets its number, responds, and has a process group of its own."""
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, OBEDIENT) as child:
            response = await child.request("/health")
            assert (response.status, response.text.strip()) == (503, "True 3")
            await child.send_command(DRAIN)
            while (await child.request("/")).text != "d True 3":
                pass
            await child.send_command(STOP)
            assert await child.wait() == 7
            # No process listens any more, which is no error.
            await child.send_command(STOP)
            with pytest.raises(NoResponse):
                await child.request("/health")


async def test_end_of_block_stops_the_worker(tmp_path: Path) -> None:
    """Cancellation stops it too."""
    with trio.fail_after(PATIENCE):
        with trio.CancelScope() as scope:
            async with program(tmp_path, OBEDIENT) as child:
                await child.request("/health")
                scope.cancel()
        assert not psutil.pid_exists(child.pid)
        assert await child.wait() == 7


async def test_worker_that_ignores_stop_is_killed_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block ends."""
    monkeypatch.setattr("odin_ws.workers.child._STOP_SECONDS", 0.1)
    with trio.fail_after(PATIENCE):
        async with program(tmp_path, DEAF) as child:
            pass
        assert await child.wait() == -signal.SIGKILL


async def test_exit_of_worker_ends_the_request(tmp_path: Path) -> None:
    """The request raises NoResponse."""
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


async def test_killed_worker_can_be_replaced(tmp_path: Path) -> None:
    """The old socket does not prevent the new worker from listening."""
    with trio.fail_after(PATIENCE):
        for _ in range(2):
            async with program(tmp_path, OBEDIENT) as child:
                assert (await child.request("/health")).status == 503


async def test_request_without_descriptors_is_not_sent(tmp_path: Path) -> None:
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
    """Leave this process without free descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_missing_program_is_reported(tmp_path: Path) -> None:
    """The error has the system's reason."""
    with pytest.raises(CannotStart, match="No such file or directory"):
        async with open_child([str(tmp_path / "nothing")], os.environ, 1):
            pytest.fail("it runs")
