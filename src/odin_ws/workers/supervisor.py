"""The supervisor: starts, watches, restarts and drains workers."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Final

import attrs
import structlog
import trio
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.backoff import Backoff
from odin_ws.workers.child import (
    DRAIN,
    RENEW,
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

# How long a page waits for the workers: below the usual 5 or 10 s of whoever asked for it.
_ANSWER_SECONDS: Final = 2.0

# How often each is looked at. What one counts after that is not known when it crashes.
_LOOK_SECONDS: Final = 5.0

# A worker answers within two seconds when 12,000 clients come back at once.
_HUNG_SECONDS: Final = 30.0

# After an attempt that failed at once; long enough not to flood the log.
_AGAIN_SECONDS: Final = 1.0

# Seconds, with full jitter. The first restart comes at once, for the clients; one that crashes at
# each start costs a start (a second of CPU) every 15 s on average.
_BACKOFF: Final = (0.25, 30.0)

# After so long a crash is a new one, and no start that failed.
_STEADY_SECONDS: Final = 60.0


# The exit status of a worker that cannot use its settings; it has said why.
WRONG_SETTINGS: Final = 2


# Those of one that SIGTERM or SIGINT has ended.
_SIGNALLED: Final = (-signal.SIGTERM, -signal.SIGINT)


class WorkerFailed(Exception):
    """A worker ended before it had ever served, so another start would fail too."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"worker {number} ended before it served, with {_described(status)}")
        self.status = status


@attrs.define(eq=False)
class Worker:
    """The place of one worker, and who has it.

    Attributes:
        number: from 1 on.
        child: the process, None between two.
        served: whether it has ever answered.
        was_ready: whether it was ever ready.
        restarts: how often it was replaced.
        drained: whether it ended by itself when all were to drain; None where it was not told to.
    """

    number: int
    child: Child | None = None
    served: bool = False
    was_ready: bool = False
    restarts: int = 0
    drained: bool | None = None


class Supervisor:
    """`workers` processes that run until `stop` is set; then all drain at the same time.

    `drain_seconds`: how long they may take for it, before they are killed.
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
        """Whether a stop was asked for."""
        return self._stop.is_set()

    async def run(self) -> bool:
        """Run the workers; returns whether all drained in time. Cancelling it stops all at once.

        Raises WorkerFailed, in a group.
        """
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(self._keep, worker)
        return all(worker.drained is not False for worker in self.workers)

    async def ask(self, path: str, body: bytes | None = None) -> dict[int, WorkerResponse | None]:
        """A page of each worker, or its answer to `body`; None of those not in time."""
        answers: dict[int, WorkerResponse | None] = dict.fromkeys(
            one.number for one in self.workers
        )

        async def ask_one(number: int, child: Child) -> None:
            try:
                answers[number] = await child.ask(path, body)
            except NoResponse:
                return

        with trio.move_on_after(_ANSWER_SECONDS):
            async with trio.open_nursery() as nursery:
                for worker in self.workers:
                    if worker.child is not None:
                        nursery.start_soon(ask_one, worker.number, worker.child)
        return answers

    async def look(self) -> dict[int, bool]:
        """Bring the totals up to date; returns which workers have answered."""
        children = {worker.number: worker.child for worker in self.workers}
        answers = await self.ask("/metrics")
        for worker in self.workers:
            answer = answers[worker.number]
            # One that has ended since then is in the totals already.
            if answer is not None and worker.child is children[worker.number]:
                self._saw(worker, answer)
        return {number: answer is not None for number, answer in answers.items()}

    async def renew(self) -> None:
        """Have the workers read their certificate again; one that only starts reads it anyway."""
        for worker in self.workers:
            if worker.child is not None and worker.served:
                await worker.child.tell(RENEW)

    async def _keep(self, worker: Worker) -> None:
        backoff = Backoff(*_BACKOFF)
        while not self.draining:
            began = trio.current_time()
            status = await self._run_once(worker)
            if self.draining:
                # One that never served had nobody to send away.
                worker.drained = status == 0 or not worker.served
                log.info("worker exited", worker=worker.number, end=_described(status))
                return
            # One that a signal ended before it served was ended by somebody: a drain of all may
            # follow, where the signal went to every process.
            if not worker.served and status not in _SIGNALLED:
                raise WorkerFailed(worker.number, status)
            if trio.current_time() - began >= _STEADY_SECONDS:
                backoff.reset()
            await self._wait_before_restart(worker, status, backoff.next())

    async def _run_once(self, worker: Worker) -> int:
        """Start a process and see it to its end; returns its exit status, 1 where none started."""
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
        """Look after a process until it ends; returns its exit status."""
        worker.child = child
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, worker, child)
                nursery.start_soon(self._drain_when_asked, worker, child)
                status = await child.wait()
                nursery.cancel_scope.cancel()
        finally:
            worker.child = None
            self.merged_metrics.ended(worker.number)
        return status

    async def _watch(self, worker: Worker, child: Child) -> None:
        """Look at it now and then; one that does not answer any more is killed."""
        while True:
            with trio.move_on_after(_HUNG_SECONDS) as patience:
                await _until_alive(worker, child, patience)
                worker.served = True
                with suppress(NoResponse):  # the page failed, which is not the worker's end
                    self._saw(worker, await child.ask("/metrics"))
            if patience.cancelled_caught:
                log.error("worker unresponsive, killed", worker=worker.number)
                child.kill()
                return
            await trio.sleep(_LOOK_SECONDS)

    def _saw(self, worker: Worker, answer: WorkerResponse) -> None:
        self.merged_metrics.saw(worker.number, text_string_to_metric_families(answer.text))

    async def _drain_when_asked(self, worker: Worker, child: Child) -> None:
        await self._stop.wait()
        await child.tell(DRAIN)
        await trio.sleep(self._drain_seconds)
        log.error("worker drain timed out, killed", worker=worker.number)
        child.kill()


async def _until_alive(worker: Worker, child: Child, patience: trio.CancelScope) -> None:
    """Ask until there is an answer; time in which nothing could be asked does not count."""
    told = False
    while True:
        try:
            await child.ask("/health/live")
        except RequestNotSent as error:
            patience.deadline = trio.current_time() + _HUNG_SECONDS
            if not told:
                told = True
                reason = str(error.__cause__)
                log.error("worker health check failed", worker=worker.number, reason=reason)  # noqa: TRY400 -- the reason says it all
            await trio.sleep(_AGAIN_SECONDS)
        except NoResponse:
            await trio.sleep(_AGAIN_SECONDS)
        else:
            return


def _described(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}: {signal.strsignal(-status)}"
