"""The ops port: an ASGI app under Hypercorn."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from logging import getLogger

import hypercorn
import trio
from hypercorn.trio import serve
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from odin_ws.ops.clients import InvalidQuery, clients_report, read_limit
from odin_ws.ops.health import health_report
from odin_ws.ops.metrics import metrics_registry, metrics_text
from odin_ws.ops.protection import protection
from odin_ws.ops.revoking import revoke
from odin_ws.ops.view import View

__all__ = ["ops_app", "serve_ops"]


def ops_app(view: View) -> Starlette:
    """The pages: `/health`, `/health/live`, `/health/ready`, `/metrics`, `/clients`.

    And `POST /revocations`. With WS_OPS_TOKEN they want it, but for the two that probes ask.
    """
    registry = metrics_registry(view)

    async def health(_request: Request) -> Response:
        report = health_report(view)
        status = HTTPStatus.OK if report["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(report, status)

    async def live(_request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(_request: Request) -> Response:
        if view.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {view.not_ready}\n", HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(_request: Request) -> Response:
        return Response(metrics_text(registry), media_type=CONTENT_TYPE_LATEST)

    async def clients(request: Request) -> Response:
        try:
            limit = read_limit(request.query_params)
        except InvalidQuery as problem:
            return PlainTextResponse(f"{problem}\n", HTTPStatus.BAD_REQUEST)
        return JSONResponse(clients_report(view, limit))

    async def revocations(request: Request) -> Response:
        return await revoke(view, request)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Route("/clients", clients),
            Route("/revocations", revocations, methods=["POST"]),
        ],
        middleware=protection(view.settings.ws_ops_token),
    )


@asynccontextmanager
async def serve_ops(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    """Serve the pages of an app on a listening socket for the length of the block."""
    config = hypercorn.Config()
    # Hypercorn takes over and closes the descriptor it is given: let it have one of its own.
    config.bind = [f"fd://{listening.dup().detach()}"]
    config.errorlog = getLogger("hypercorn.error")
    config.graceful_timeout = 1  # a health check in flight; nothing here takes longer
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve, app, config, shutdown_trigger=stop.wait, mode="asgi")  # type: ignore[arg-type]
        )
        yield
        stop.set()
