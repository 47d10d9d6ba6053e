"""The ASGI app of the ops port of one process."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from odin_ws.ops.clients import clients_report
from odin_ws.ops.console.events import SubscribersPort
from odin_ws.ops.console.report import ConsoleReport
from odin_ws.ops.console.sampler import Sampler
from odin_ws.ops.health import health_report
from odin_ws.ops.metrics import metrics_registry, metrics_text
from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.ops.pages import OpsPages, not_ready, pages_app
from odin_ws.ops.request_checks import OpsAuth
from odin_ws.ops.revocations import revoke
from odin_ws.ops.stats import OpsStats
from odin_ws.service import Service

__all__ = ["ops_app"]


def ops_app(
    service: Service,
    seconds: float = PAGE_SECONDS,
    stats: OpsStats | None = None,
    sampler: Sampler | None = None,
) -> Starlette:
    """Return the app of one process's ops port; builds expensive pages at most once in `seconds`.

    `stats`: counters of the ops port. `sampler`: the service's sampler; without one the console has
    no charts.
    """
    stats = OpsStats() if stats is None else stats
    pages = _Pages(service, seconds, stats, sampler or Sampler(service))
    return pages_app(pages, OpsAuth.from_settings(service.settings), stats)


class _Pages(OpsPages):
    def __init__(self, service: Service, seconds: float, stats: OpsStats, sampler: Sampler) -> None:
        super().__init__(seconds, SubscribersPort.from_settings(service.settings))
        self._service = service
        self._report = ConsoleReport(service, sampler, stats)
        self._registry = metrics_registry(service, stats)

    async def ready(self, _request: Request) -> Response:
        # Not cached: the check is cheap, and load balancers must see a drain at once.
        if (why := self._service.not_ready) is None:
            return PlainTextResponse("ready\n")
        return not_ready(why)

    async def health_report(self) -> dict[str, Any]:
        return health_report(self._service)

    async def metrics_text(self) -> bytes:
        return metrics_text(self._registry)

    async def clients_report(self, limit: int) -> dict[str, Any]:
        return await clients_report(self._service, limit)

    async def console_report(
        self, parts: Collection[str], after: int, _worker: int | None
    ) -> dict[str, Any]:
        return await self._report.build(parts, after)

    async def revocations(self, request: Request) -> Response:
        return await revoke(self._service, request)
