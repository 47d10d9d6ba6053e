"""POST /revocations: revokes a user or a JWT, and closes the connections."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any, Final

import attrs
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from odin_ws.auth.revocations import LASTS_SECONDS, Revocation, TooManyRevocations
from odin_ws.service import Service

__all__ = ["read_body", "revocation_disabled", "revoke"]

log = structlog.get_logger("odin_ws.ops")

# Maximum size of a body: two names and a number.
_MAX_BYTES: Final = 4096

# The largest `until` in epoch seconds: every JSON parser preserves integers up to 2^53.
_LATEST: Final = 1 << 53

_FIELDS: Final = {"user", "token_id", "until"}


class _BadRequest(ValueError):
    """The body is not a valid revocation; the message says what a valid one has."""


@attrs.frozen
class _Order:
    revocation: Revocation
    until: float


async def revoke(service: Service, request: Request) -> Response:
    """Revoke a user or JWT; responds with the number of closed connections."""
    jwt_verifier = service.server.authenticator.jwt_verifier
    if service.settings.ws_ops_token is None:
        return revocation_disabled()
    if jwt_verifier is None:
        return _reject(HTTPStatus.CONFLICT, "WS_AUTH=none: there are neither users nor tokens")
    try:
        order = _read(await read_body(request))
        jwt_verifier.revoke(order.revocation, order.until)
    except _BadRequest as problem:
        return _reject(HTTPStatus.BAD_REQUEST, str(problem))
    except TooManyRevocations:
        text = "the list is full; nothing was revoked: change the key that tokens are signed with"
        return _reject(HTTPStatus.INSUFFICIENT_STORAGE, text)
    lifted = order.until <= time.time()
    closed = 0 if lifted else service.server.connections.revoke(order.revocation)
    log.info("revoked", closed=closed, **_as_fields(order))
    return JSONResponse({**_as_fields(order), "closed": closed})


def revocation_disabled() -> Response:
    """Return the response without WS_OPS_TOKEN."""
    return _reject(HTTPStatus.FORBIDDEN, "WS_OPS_TOKEN is not set: revocation is disabled")


def _as_fields(order: _Order) -> dict[str, Any]:
    names = attrs.asdict(order.revocation, filter=lambda _, value: value is not None)
    return {**names, "until": order.until}


def _reject(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)


async def read_body(request: Request) -> bytes:
    """Return the body, or its beginning if it is larger than a revocation."""
    body = b""
    async for chunk in request.stream():
        # HTTP requires reading the body to its end; the excess is dropped.
        body = (body + chunk)[: _MAX_BYTES + 1]
    return body


def _read(body: bytes) -> _Order:
    if len(body) > _MAX_BYTES:
        raise _BadRequest(f"at most {_MAX_BYTES} bytes")
    try:
        order = orjson.loads(body)
    except orjson.JSONDecodeError:
        order = None
    if not isinstance(order, dict):
        raise _BadRequest('must be JSON: {"user": …} or {"token_id": …}, and optionally "until"')
    if unknown := order.keys() - _FIELDS:
        raise _BadRequest(f"unknown field {', '.join(sorted(unknown))}")
    if ("user" in order) is ("token_id" in order):
        raise _BadRequest("must have either user or token_id")
    name = order.get("user", order.get("token_id"))
    if not isinstance(name, str) or not name:
        raise _BadRequest("user, token_id: must be a non-empty string")
    until = order.get("until", time.time() + LASTS_SECONDS)
    if not isinstance(until, int | float) or isinstance(until, bool) or abs(until) > _LATEST:
        raise _BadRequest("until: must be a number of epoch seconds, up to 2^53")
    return _Order(Revocation(order.get("user"), order.get("token_id")), round(until))
