"""The console of several workers: requests and merges their reports, stores their samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import trio

from odin_ws.ops.console.channels import TABLE_ROWS
from odin_ws.ops.console.events import SubscribersPort
from odin_ws.ops.console.series import Series
from odin_ws.ops.page_cache import PAGE_SECONDS, PageCache
from odin_ws.ops.stats import OpsStats
from odin_ws.workers.console_merge import (
    merge_samples,
    merge_setup,
    merge_state,
    merge_tables,
)
from odin_ws.workers.supervisor import Supervisor

__all__ = ["WorkersConsole"]

# Seconds between two requests for samples. If a worker crashes, later samples are lost.
_SAMPLE_INTERVAL_SECONDS: Final = 5.0

# Seconds between requests before the first response: a worker starts in half a second.
_RETRY_SECONDS: Final = 0.5

Responses = dict[int, dict[str, Any]]


class WorkersConsole:
    """The reports of each worker, and of all workers together.

    Stores the samples of each worker, also after its replacement.

    Args:
        supervisor: the supervisor of the workers.
        stats: counters of the ops port.
        subscribers: the port shared by the workers.
        seconds: seconds for which responses are cached.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        stats: OpsStats,
        subscribers: SubscribersPort | None = None,
        seconds: float = PAGE_SECONDS,
    ) -> None:
        self.subscribers = subscribers or SubscribersPort()
        self._supervisor = supervisor
        self._stats = stats
        self._series = {worker.number: Series() for worker in supervisor.workers}
        self._reads = PageCache(self._read_samples, seconds)
        self._responses = {
            part: PageCache(partial(self._request, part), seconds)
            for part in ("setup", "state", "tables")
        }

    async def run(self) -> None:
        """Request the samples of all workers at an interval until cancelled."""
        while True:
            await trio.sleep(_SAMPLE_INTERVAL_SECONDS)
            await self._reads.get()

    async def build(
        self,
        parts: Collection[str],
        after: int,
        worker: int | None,
        why_missing: Callable[[int], str],
    ) -> dict[str, Any]:
        """Return parts of one worker or of all; `why_missing` returns why a worker is missing."""
        report: dict[str, Any] = {}
        if "setup" in parts:
            report["setup"] = merge_setup(await self._setups(worker))
        if "state" in parts:
            states = await self._of("state", worker)
            numbers = self._series.keys() if worker is None else {worker}
            missing = {number: why_missing(number) for number in sorted(numbers - states.keys())}
            report["state"] = merge_state(states, missing)
        if "samples" in parts:
            await self._reads.get()
            series = [series for number, series in self._series.items() if worker in {None, number}]
            report["samples"] = merge_samples(
                [workers_series.after(0) for workers_series in series], after
            )
        if "tables" in parts:
            report["tables"] = merge_tables(await self._of("tables", worker), TABLE_ROWS)
            report["tables"]["counts"]["ops"] = dict(self._stats.rejected)
        return report

    async def _setups(self, worker: int | None) -> list[dict[str, Any]]:
        """Return the setups, after the first response of a worker.

        Has no timeout of its own: the ops port bounds the time of the request.
        """
        while not (setups := await self._of("setup", worker)):  # noqa: ASYNC110 -- other processes
            await trio.sleep(_RETRY_SECONDS)
        return list(setups.values())

    async def health(self) -> Responses:
        """Return the health reports of the responding workers, by number."""
        states = await self._of("state", None)
        return {number: state["health"] for number, state in states.items()}

    async def _of(self, part: str, worker: int | None) -> Responses:
        responses = await self._responses[part].get()
        return {
            number: response for number, response in responses.items() if worker in {None, number}
        }

    async def _request(self, part: str) -> Responses:
        """Request a part from each worker; returns the responses by number."""
        responses = await self._supervisor.request(f"/console/report?parts={part}")
        return {
            number: json.loads(response.text)[part]
            for number, response in responses.items()
            if response
        }

    async def _read_samples(self) -> None:
        """Store the samples of each worker since the previous request."""
        after = min(series.last for series in self._series.values())
        responses = await self._supervisor.request(f"/console/report?parts=samples&after={after}")
        for number, response in responses.items():
            if response is not None:
                self._series[number].extend(json.loads(response.text)["samples"])
