"""The paths of the ops port, shared by one process and by workers."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Collection
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from odin_ws import __version__
from odin_ws.ops.clients import ClientsPages, InvalidQuery, read_limit
from odin_ws.ops.console.events import ConsoleEvents, SubscribersPort
from odin_ws.ops.console.files import CONSOLE_PATHS, console_page, static_file
from odin_ws.ops.page_cache import PageCache
from odin_ws.ops.request_checks import OpsAuth, protection, wants_html
from odin_ws.ops.stats import OpsStats

__all__ = ["OpsPages", "not_ready", "pages_app"]

# The response of `/` without HTML.
_INDEX: Final = f"""\
odin-ws {__version__}, Python {platform.python_version()}
/health
/health/live
/health/ready
/metrics
/clients
/console/report
"""


class OpsPages(ABC):
    """The pages of an instance; builds expensive pages at most once in `seconds`."""

    def __init__(self, seconds: float, subscribers: SubscribersPort, workers: int = 0) -> None:
        self._health = PageCache(self._build_health, seconds)
        self._metrics = PageCache(self._build_metrics, seconds)
        self._clients = ClientsPages(self.clients_report, seconds)
        self._subscribers = subscribers
        self._console = ConsoleEvents(self.console_report, workers, seconds, subscribers.origins)

    async def index(self, request: Request) -> Response:
        """Return the console to a browser, otherwise the version and the list of pages."""
        if wants_html(request.headers):
            return console_page(request, self._subscribers.host)
        return PlainTextResponse(_INDEX)

    async def console_file(self, request: Request) -> Response:
        """Return a file of the console's page."""
        return static_file(request)

    async def console_json(self, request: Request) -> Response:
        """Return the console's data, once."""
        return await self._console.report(request)

    async def console_events(self, request: Request) -> Response:
        """Return the console's data as a stream."""
        return await self._console.stream(request)

    @abstractmethod
    async def console_report(
        self, parts: Collection[str], after: int, worker: int | None
    ) -> dict[str, Any]:
        """Return the console's data of a worker, or of all workers if `worker` is None."""

    async def live(self, _request: Request) -> Response:
        """Respond with 200: the process runs."""
        return PlainTextResponse("live\n")

    @abstractmethod
    async def ready(self, request: Request) -> Response:
        """Respond with 200 if the instance takes new connections, otherwise with 503."""

    async def health(self, _request: Request) -> Response:
        """Return the report of all checks."""
        return await self._health.get()

    async def _build_health(self) -> Response:
        report = await self.health_report()
        status = HTTPStatus.OK if report["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(report, status)

    @abstractmethod
    async def health_report(self) -> dict[str, Any]:
        """Return the content of `/health`."""

    async def metrics(self, _request: Request) -> Response:
        """Return the metrics in the text format of Prometheus."""
        return await self._metrics.get()

    async def _build_metrics(self) -> Response:
        return Response(await self.metrics_text(), media_type=CONTENT_TYPE_LATEST)

    @abstractmethod
    async def metrics_text(self) -> bytes:
        """Return the content of `/metrics`."""

    async def clients(self, request: Request) -> Response:
        """Return the connections with the largest backlog."""
        try:
            limit = read_limit(request.query_params)
        except InvalidQuery as problem:
            return PlainTextResponse(f"{problem}\n", HTTPStatus.BAD_REQUEST)
        return await self._clients.get(limit)

    @abstractmethod
    async def clients_report(self, limit: int) -> dict[str, Any]:
        """Return the content of `/clients` with at most `limit` connections."""

    @abstractmethod
    async def revocations(self, request: Request) -> Response:
        """Revoke a user or a token."""


def pages_app(pages: OpsPages, ops_auth: OpsAuth, stats: OpsStats) -> Starlette:
    """Return the app of these pages, behind the request checks.

    `stats`: counts rejected requests.
    """
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/health", pages.health),
            Route("/health/live", pages.live),
            Route("/health/ready", pages.ready),
            Route("/metrics", pages.metrics),
            Route("/clients", pages.clients),
            Route("/console/report", pages.console_json),
            Route("/console/events", pages.console_events),
            *(Route(path, pages.console_file) for path in CONSOLE_PATHS),
            Route("/revocations", pages.revocations, methods=["POST"]),
        ],
        middleware=protection(ops_auth, stats),
    )


def not_ready(why: str) -> Response:
    """Return the response of an instance that is not ready."""
    return PlainTextResponse(f"not ready: {why}\n", HTTPStatus.SERVICE_UNAVAILABLE)
