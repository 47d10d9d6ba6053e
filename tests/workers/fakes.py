"""Workers without processes, in virtual time."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from trio.testing import wait_all_tasks_blocked

from odin_ws.workers.child import (
    DRAIN,
    STOP,
    CannotStart,
    NoResponse,
    RequestNotSent,
    WorkerResponse,
)
from odin_ws.workers.supervisor import Supervisor

__all__ = ["Crew", "FakeChild", "families", "supervising"]

DRAIN_SECONDS = 20.0


class FakeChild:
    """A worker. `told` and `posted`: what it was told and posted, in order; `asked`: how often."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.commands: list[bytes] = []
        self.posted: list[bytes] = []
        self.asked = 0
        self.hangs = False
        self.rejects = False
        self.cannot_be_asked = False
        self.drains = True
        self.pages: dict[str, WorkerResponse] = {
            "/metrics": WorkerResponse(200, ""),
            "/health/live": WorkerResponse(200, "live\n"),
            "/health/ready": WorkerResponse(200, "ready\n"),
        }
        self._ended = trio.Event()
        self._status = 0

    def counts(self, messages: int, connections: int = 0) -> None:
        """Set the worker's metrics from now on."""
        text = (
            "# TYPE ws_messages_sent_total counter\n"
            f"ws_messages_sent_total {messages}\n"
            "# TYPE ws_connections_active gauge\n"
            f"ws_connections_active {connections}\n"
        )
        self.pages["/metrics"] = WorkerResponse(200, text)

    def says(self, path: str, body: Any, status: int = 200) -> None:
        """Set the worker's page from now on."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.pages[path] = WorkerResponse(status, text)

    def exit(self, status: int) -> None:
        """Exit, if the worker has not exited."""
        if not self._ended.is_set():
            self._status = status
            self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether the worker has exited."""
        return self._ended.is_set()

    async def request(self, path: str, body: bytes | None = None) -> WorkerResponse:
        """See Child."""
        self.asked += 1
        self.posted += [] if body is None else [body]
        await trio.lowlevel.checkpoint()
        if self.cannot_be_asked:
            raise RequestNotSent from OSError(errno.EMFILE, "Too many open files")
        if self.hangs:
            await trio.sleep_forever()
        if self.rejects or self.ended:
            raise NoResponse
        page = self.pages[path]
        if page.status == 500:
            raise NoResponse
        return page

    async def send_command(self, command: bytes) -> None:
        """See Child."""
        await trio.lowlevel.checkpoint()
        self.commands.append(command)
        if command == STOP or self.drains:
            self.exit(0 if command == DRAIN else 1)

    async def wait(self) -> int:
        """See Child."""
        await self._ended.wait()
        return self._status

    def kill(self) -> None:
        """See Child."""
        self.exit(-9)


class Crew:
    """Starts fakes. `starts`: all of them, each with the time of its start."""

    def __init__(self) -> None:
        self.starts: list[tuple[float, int, FakeChild]] = []
        # Exit statuses of the next workers, which exit as soon as they have started.
        self.fate: int | None = None
        self.no_processes = False
        self.stop = trio.Event()

    def now(self, number: int) -> FakeChild:
        """Return the worker of this number that runs, or the last one that ran."""
        return [child for _, place, child in self.starts if place == number][-1]

    def times(self, number: int) -> list[float]:
        """Return when workers of this number were started."""
        return [at for at, place, _ in self.starts if place == number]

    @asynccontextmanager
    async def open(self, number: int) -> AsyncIterator[FakeChild]:
        """See OpenChild."""
        if self.no_processes:
            raise CannotStart("Resource temporarily unavailable")
        child = FakeChild(1000 * number + len(self.times(number)))
        self.starts.append((trio.current_time(), number, child))
        if self.fate is not None:
            child.exit(self.fate)
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):
                if not child.ended:
                    await child.send_command(STOP)


class Run:
    """A supervisor that runs. `drained` is what its run returned, None before that."""

    def __init__(self, supervisor: Supervisor, scope: trio.CancelScope) -> None:
        self.supervisor = supervisor
        self.scope = scope
        self.drained: bool | None = None
        self.ended_at = 0.0


@asynccontextmanager
async def supervising(crew: Crew, workers: int = 2) -> AsyncIterator[Run]:
    """Run a supervisor of fakes for the length of the block, which begins when all serve."""
    supervisor = Supervisor(workers, crew.open, crew.stop, DRAIN_SECONDS)
    async with trio.open_nursery() as nursery:
        run = Run(supervisor, nursery.cancel_scope)

        async def supervise() -> None:
            run.drained = await supervisor.run()
            run.ended_at = trio.current_time()

        nursery.start_soon(supervise)
        await wait_all_tasks_blocked()
        yield run
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def families(
    counts: dict[str, float] | None = None, gauges: dict[str, float] | None = None
) -> list[Metric]:
    """Metrics of one worker, by name."""
    made: list[Metric] = [CounterMetricFamily(n, n, value=v) for n, v in (counts or {}).items()]
    made += [GaugeMetricFamily(n, n, value=v) for n, v in (gauges or {}).items()]
    return made
