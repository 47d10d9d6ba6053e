"""The supervisor: starts, watches, restarts and drains workers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs
import structlog
import trio
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.backoff import Backoff
from odin_ws.workers.child import (
    DRAIN,
    RELOAD,
    CannotStart,
    Child,
    NoResponse,
    OpenChild,
    RequestNotSent,
    WorkerResponse,
)
from odin_ws.workers.metrics import MergedMetrics

__all__ = ["WRONG_SETTINGS", "Supervisor", "Worker", "WorkerFailed"]

log = structlog.get_logger("odin_ws.workers")

# Seconds that a page waits for the workers: below the usual timeouts of 5 or 10 s of its clients.
_RESPONSE_SECONDS: Final = 2.0

# Seconds between two health checks. A crash loses the worker's counts since the last check.
_HEALTH_CHECK_SECONDS: Final = 5.0

# The supervisor kills a worker after 30 s without a response. A worker responds within 2 s while
# 12,000 clients reconnect at once.
_HUNG_SECONDS: Final = 30.0

# Pause after a request without a response; long enough not to flood the log.
_RETRY_SECONDS: Final = 1.0

# Seconds before a restart, with full jitter. The first restart has no delay. A worker that crashes
# at each start costs one second of CPU every 15 s on average.
_BACKOFF: Final = (0.25, 30.0)

# A worker that crashes after this time was healthy: the back-off starts again.
_STEADY_SECONDS: Final = 60.0


# The exit status of a worker with invalid settings; the worker has logged the error.
WRONG_SETTINGS: Final = 2


# Exit statuses after SIGTERM or SIGINT.
_SIGNALLED: Final = (-signal.SIGTERM, -signal.SIGINT)


class WorkerFailed(Exception):
    """A worker exited before its first response, so another start would fail too."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"worker {number} exited before it served, with {_described(status)}")
        self.status = status


@attrs.define(eq=False)
class Worker:
    """One worker and its current process.

    Attributes:
        number: the worker's number, from 1 on.
        child: the running process; None between two processes.
        served: whether the worker has ever responded.
        was_ready: whether the worker was ever ready.
        restarts: the number of replaced processes.
        drained: whether the process exited by itself in the drain; None without a drain.
    """

    number: int
    child: Child | None = None
    served: bool = False
    was_ready: bool = False
    restarts: int = 0
    drained: bool | None = None


class Supervisor:
    """Runs `workers` processes until `stop` is set; then drains all at the same time.

    `drain_seconds`: seconds for the drain; the supervisor kills workers that take longer.
    """

    def __init__(
        self, workers: int, open_child: OpenChild, stop: trio.Event, drain_seconds: float
    ) -> None:
        self.workers = [Worker(number) for number in range(1, workers + 1)]
        self.merged_metrics = MergedMetrics()
        self._open_child = open_child
        self._stop = stop
        self._drain_seconds = drain_seconds

    @property
    def draining(self) -> bool:
        """True if a stop was requested."""
        return self._stop.is_set()

    async def run(self) -> bool:
        """Run the workers; returns whether all drained in time. Cancellation stops all at once.

        Raises:
            WorkerFailed: a worker exited before its first response; in an exception group.
        """
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(self._keep, worker)
        return all(worker.drained is not False for worker in self.workers)

    async def request(
        self,
        path: str,
        body: bytes | None = None,
        *,
        enough: Callable[[WorkerResponse], bool] = lambda _answer: False,
    ) -> dict[int, WorkerResponse | None]:
        """Return each worker's page, or its response to `body`; None for a silent worker.

        `enough`: returns whether a response makes those of the other workers unnecessary.
        """
        responses: dict[int, WorkerResponse | None] = dict.fromkeys(
            worker.number for worker in self.workers
        )

        async def request_one(number: int, child: Child) -> None:
            try:
                response = responses[number] = await child.request(path, body)
            except NoResponse:
                return
            if enough(response):
                nursery.cancel_scope.cancel()

        with trio.move_on_after(_RESPONSE_SECONDS):
            async with trio.open_nursery() as nursery:
                for worker in self.workers:
                    if worker.child is not None:
                        nursery.start_soon(request_one, worker.number, worker.child)
        return responses

    async def check(self) -> dict[int, bool]:
        """Update the merged metrics; returns which workers have responded."""
        children = {worker.number: worker.child for worker in self.workers}
        responses = await self.request("/metrics")
        for worker in self.workers:
            response = responses[worker.number]
            # The totals already include a worker that has exited meanwhile.
            if response is not None and worker.child is children[worker.number]:
                self._saw(worker, response)
        return {number: response is not None for number, response in responses.items()}

    async def reload_certificates(self) -> None:
        """Send RELOAD to each worker; a starting worker reads the certificate anyway."""
        for worker in self.workers:
            if worker.child is not None and worker.served:
                await worker.child.send_command(RELOAD)

    async def _keep(self, worker: Worker) -> None:
        backoff = Backoff(*_BACKOFF)
        while not self.draining:
            began = trio.current_time()
            status = await self._run_once(worker)
            if self.draining:
                # A worker that never served had no clients.
                worker.drained = status == 0 or not worker.served
                log.info("worker exited", worker=worker.number, end=_described(status))
                return
            # If a signal ended a worker before it served, the signal may have gone to every
            # process: a drain of all may follow.
            if not worker.served and status not in _SIGNALLED:
                raise WorkerFailed(worker.number, status)
            if trio.current_time() - began >= _STEADY_SECONDS:
                backoff.reset()
            await self._wait_before_restart(worker, status, backoff.next())

    async def _run_once(self, worker: Worker) -> int:
        """Start a process and wait for its exit; returns its status, 1 if none started."""
        try:
            async with self._open_child(worker.number) as child:
                log.info("worker starting", worker=worker.number, pid=child.pid)
                return await self._attend(worker, child)
        except CannotStart as error:
            log.error("worker start failed", worker=worker.number, reason=str(error))  # noqa: TRY400 -- the reason says it all
            return 1

    async def _wait_before_restart(self, worker: Worker, status: int, seconds: float) -> None:
        log.error(
            "worker exited, replaced",
            worker=worker.number,
            end=_described(status),
            after_seconds=round(seconds, 2),
        )
        worker.restarts += 1
        with trio.move_on_after(seconds):
            await self._stop.wait()

    async def _attend(self, worker: Worker, child: Child) -> int:
        """Watch and drain a process until it exits; returns its status."""
        worker.child = child
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, worker, child)
                nursery.start_soon(self._drain_on_stop, worker, child)
                status = await child.wait()
                nursery.cancel_scope.cancel()
        finally:
            worker.child = None
            self.merged_metrics.ended(worker.number)
        return status

    async def _watch(self, worker: Worker, child: Child) -> None:
        """Check a worker at an interval; kill it after `_HUNG_SECONDS` without a response."""
        while True:
            with trio.move_on_after(_HUNG_SECONDS) as patience:
                await _until_alive(worker, child, patience)
                worker.served = True
                with suppress(NoResponse):  # the page failed, the worker responds
                    self._saw(worker, await child.request("/metrics"))
            if patience.cancelled_caught:
                log.error("worker unresponsive, killed", worker=worker.number)
                child.kill()
                return
            await trio.sleep(_HEALTH_CHECK_SECONDS)

    def _saw(self, worker: Worker, response: WorkerResponse) -> None:
        self.merged_metrics.update(worker.number, text_string_to_metric_families(response.text))

    async def _drain_on_stop(self, worker: Worker, child: Child) -> None:
        await self._stop.wait()
        await child.send_command(DRAIN)
        await trio.sleep(self._drain_seconds)
        log.error("worker drain timed out, killed", worker=worker.number)
        child.kill()


async def _until_alive(worker: Worker, child: Child, patience: trio.CancelScope) -> None:
    """Wait for a response; extends the deadline while a request cannot be sent."""
    is_failure_logged = False
    while True:
        try:
            await child.request("/health/live")
        except RequestNotSent as error:
            patience.deadline = trio.current_time() + _HUNG_SECONDS
            if not is_failure_logged:
                is_failure_logged = True
                reason = str(error.__cause__)
                log.error("worker health check failed", worker=worker.number, reason=reason)  # noqa: TRY400 -- the reason says it all
            await trio.sleep(_RETRY_SECONDS)
        except NoResponse:
            await trio.sleep(_RETRY_SECONDS)
        else:
            return


def _described(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}: {signal.strsignal(-status)}"
