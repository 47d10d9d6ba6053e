"""The ops pages of all workers together."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from odin_ws.ops.metrics import build_info, log_lines, ops_rejections
from odin_ws.ops.page_cache import PAGE_SECONDS, PageCache
from odin_ws.ops.pages import OpsPages, not_ready, pages_app
from odin_ws.ops.request_checks import OpsAuth
from odin_ws.ops.revocations import read_body, revocation_disabled
from odin_ws.ops.stats import OpsStats
from odin_ws.workers.child import WorkerResponse
from odin_ws.workers.console import WorkersConsole
from odin_ws.workers.health import merge_clients, merge_health
from odin_ws.workers.supervisor import Supervisor

__all__ = ["worker_families", "workers_app"]


def workers_app(
    supervisor: Supervisor,
    ops_auth: OpsAuth,
    stats: OpsStats,
    console: WorkersConsole,
    seconds: float = PAGE_SECONDS,
) -> Starlette:
    """Build the app; each page queries the workers at most once in `seconds`."""
    pages = _Pages(supervisor, stats, console, seconds, may_revoke=ops_auth.token is not None)
    return pages_app(pages, ops_auth, stats)


class _Pages(OpsPages):
    def __init__(
        self,
        supervisor: Supervisor,
        stats: OpsStats,
        console: WorkersConsole,
        seconds: float,
        *,
        may_revoke: bool,
    ) -> None:
        super().__init__(seconds, console.subscribers, workers=len(supervisor.workers))
        self._supervisor = supervisor
        self._workers_console = console
        self._may_revoke = may_revoke
        self._stats = stats
        self._ready = PageCache(self._build_ready, seconds)
        self._started_at = trio.current_time()
        own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._own = own

    async def ready(self, _request: Request) -> Response:
        """Respond with 200 once all workers have been ready, and then while at least one is."""
        if self._supervisor.draining:
            # Not cached: load balancers must see the drain within WS_DRAIN_DELAY_SECONDS.
            return not_ready("draining")
        return await self._ready.get()

    async def _build_ready(self) -> Response:
        # Once all have been ready, one is enough: balancers do not wait for a worker that hangs.
        were_ready = all(worker.was_ready for worker in self._supervisor.workers)
        responses = await self._supervisor.request(
            "/health/ready", enough=lambda response: were_ready and _is_ok(response)
        )
        now = {number for number, response in responses.items() if _is_ok(response)}
        for worker in self._supervisor.workers:
            worker.was_ready |= worker.number in now
        if self._supervisor.draining:
            return not_ready("draining")
        if now and all(worker.was_ready for worker in self._supervisor.workers):
            return PlainTextResponse("ready\n")
        return not_ready(
            "; ".join(
                f"worker {number}: {self._why_not(number, response)}"
                for number, response in responses.items()
                if number not in now
            )
        )

    async def health_report(self) -> dict[str, Any]:
        responses = await self._supervisor.request("/health")
        reports = {
            number: json.loads(response.text) for number, response in responses.items() if response
        }
        missing = {
            number: self._state(number) for number, response in responses.items() if not response
        }
        report = merge_health(reports, missing)
        report["workers"] = self._workers(reports)
        report["uptime"] = round(trio.current_time() - self._started_at, 3)
        return report

    async def metrics_text(self) -> bytes:
        supervisor = self._supervisor
        up = await supervisor.check()
        families = supervisor.merged_metrics.families(
            self._own.collect(), [build_info(), log_lines(), ops_rejections(self._stats)]
        )
        return _text([*worker_families(supervisor, up), *families])

    async def clients_report(self, limit: int) -> dict[str, Any]:
        responses = await self._supervisor.request(f"/clients?limit={limit}")
        pages = {
            number: json.loads(response.text) for number, response in responses.items() if response
        }
        return merge_clients(pages, limit)

    async def console_report(
        self, parts: Collection[str], after: int, worker: int | None
    ) -> dict[str, Any]:
        report = await self._workers_console.build(parts, after, worker, self._state)
        if "state" in report:
            reports = await self._workers_console.health()
            report["state"]["workers"] = self._workers(reports)
        return report

    async def revocations(self, request: Request) -> Response:
        """Send a revocation to each worker; without a response of one, request another post."""
        if not self._may_revoke:
            # Rejected by the supervisor: a flood of posts must not reach the workers.
            return revocation_disabled()
        responses = await self._supervisor.request("/revocations", await read_body(request))
        for number, response in responses.items():
            if response is None:
                text = f"worker {number} {self._state(number)}: post it again\n"
                return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE)
            if not _is_ok(response):
                return PlainTextResponse(response.text, response.status)
        results = [json.loads(response.text) for response in responses.values() if response]
        return JSONResponse({**results[0], "closed": sum(worker["closed"] for worker in results)})

    def _workers(self, reports: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        """Return the state of each worker; `reports`: the health reports of responding workers."""
        return {
            str(worker.number): self._worker(worker.number, reports)
            for worker in self._supervisor.workers
        }

    def _worker(self, number: int, reports: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        worker = self._supervisor.workers[number - 1]
        report = reports.get(number)
        return {
            "status": self._state(number) if report is None else report["status"],
            "pid": None if worker.child is None else worker.child.pid,
            "restarts": worker.restarts,
            "connections": 0 if report is None else report["checks"]["capacity"]["current"],
            "uptime": 0 if report is None else report["uptime"],
        }

    def _why_not(self, number: int, response: WorkerResponse | None) -> str:
        if response is None:
            return self._state(number)
        return response.text.strip().removeprefix("not ready: ")

    def _state(self, number: int) -> str:
        """Return why a worker has not responded."""
        worker = self._supervisor.workers[number - 1]
        if worker.child is not None:
            return "does not respond"
        return "has exited" if self._supervisor.draining else "is being replaced"


def worker_families(supervisor: Supervisor, up: Mapping[int, bool]) -> Iterator[Metric]:
    """Return the supervisor's own metrics; `up`: which workers respond."""
    yield GaugeMetricFamily("ws_workers", "WS_WORKERS", value=len(supervisor.workers))
    responding = GaugeMetricFamily("ws_worker_up", "1 while it responds", labels=["worker"])
    restarts = CounterMetricFamily("ws_worker_restarts", "Times replaced", labels=["worker"])
    active = GaugeMetricFamily(
        "ws_worker_connections_active", "Open connections of each worker", labels=["worker"]
    )
    for worker in supervisor.workers:
        labels = [str(worker.number)]
        responding.add_metric(labels, up[worker.number])
        restarts.add_metric(labels, worker.restarts)
        active.add_metric(
            labels, supervisor.merged_metrics.of(worker.number, "ws_connections_active")
        )
    yield from (responding, restarts, active)


def _is_ok(response: WorkerResponse | None) -> bool:
    return response is not None and response.status == HTTPStatus.OK


def _text(families: list[Metric]) -> bytes:
    class Ready(Collector):
        def collect(self) -> list[Metric]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ready())
    return generate_latest(registry)
