"""The pages of the ops port, as an ASGI app."""

from __future__ import annotations

import platform
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from odin_ws import __version__
from odin_ws.ops.clients import ClientsPages, InvalidQuery, clients_report, read_limit
from odin_ws.ops.health import health_report
from odin_ws.ops.metrics import metrics_registry, metrics_text
from odin_ws.ops.page_cache import PAGE_SECONDS, SharedPage
from odin_ws.ops.request_checks import OpsAccess, protection
from odin_ws.ops.revocations import revoke
from odin_ws.ops.service_view import View

__all__ = ["INDEX", "ops_app"]

# What `/` says.
INDEX: Final = f"""\
odin-ws {__version__}, Python {platform.python_version()}
/health
/health/live
/health/ready
/metrics
/clients
"""


def ops_app(view: View, seconds: float = PAGE_SECONDS) -> Starlette:
    """The pages: `/`, `/health`, `/health/live`, `/health/ready`, `/metrics`, `/clients`.

    And `POST /revocations`. `protection` stands before them all. A page that costs is built at most
    once in `seconds`.
    """
    pages = _Pages(view, seconds)
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/health", pages.health),
            Route("/health/live", pages.live),
            Route("/health/ready", pages.ready),
            Route("/metrics", pages.metrics),
            Route("/clients", pages.clients),
            Route("/revocations", pages.revocations, methods=["POST"]),
        ],
        middleware=protection(OpsAccess.of(view.settings), view.ops),
    )


class _Pages:
    def __init__(self, view: View, seconds: float) -> None:
        self._view = view
        self._registry = metrics_registry(view)
        self._health = SharedPage(self._build_health, seconds)
        self._metrics = SharedPage(self._build_metrics, seconds)
        self._clients = ClientsPages(self._clients_report, seconds)

    async def index(self, _request: Request) -> Response:
        return PlainTextResponse(INDEX)

    async def live(self, _request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(self, _request: Request) -> Response:
        # Not shared: it costs nothing, and a load balancer has to see a drain at once.
        if (why := self._view.not_ready) is None:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {why}\n", HTTPStatus.SERVICE_UNAVAILABLE)

    async def health(self, _request: Request) -> Response:
        return await self._health.get()

    async def _build_health(self) -> Response:
        report = health_report(self._view)
        status = HTTPStatus.OK if report["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(report, status)

    async def metrics(self, _request: Request) -> Response:
        return await self._metrics.get()

    async def _build_metrics(self) -> Response:
        return Response(metrics_text(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def clients(self, request: Request) -> Response:
        try:
            limit = read_limit(request.query_params)
        except InvalidQuery as problem:
            return PlainTextResponse(f"{problem}\n", HTTPStatus.BAD_REQUEST)
        return await self._clients.get(limit)

    async def _clients_report(self, limit: int) -> dict[str, Any]:
        return await clients_report(self._view, limit)

    async def revocations(self, request: Request) -> Response:
        return await revoke(self._view, request)
