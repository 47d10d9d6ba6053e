"""Checks before each ops request: Host allow-list, cross-site requests, bearer token."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Final, Self

import attrs
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from odin_ws.address import host_name, is_loopback, read_address
from odin_ws.ops.console.files import CONSOLE_PATHS
from odin_ws.ops.stats import OpsStats
from odin_ws.settings import Secret, Settings

__all__ = ["OpsAuth", "protection", "wants_html"]

# The console's page and its files need no token: they are the same in each installation.
_INDEX: Final = "/"

# Probes of orchestrators and load balancers send no token and any Host; the two pages contain one
# word.
_OPEN: Final = frozenset({"/health/live", "/health/ready"})

_SCHEME: Final = "bearer "

# WS_OPS_HOSTS=* allows every name.
_ANY: Final = "*"

# Accepted values of Sec-Fetch-Site: a request of a page of this port, or of a typed address.
_OWN_SITES: Final = frozenset({"same-origin", "none"})

# Rejections by the pages themselves, by status; a 503 is no rejection but a page's content.
_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.FORBIDDEN: "revocation",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "bad_method",
    HTTPStatus.CONFLICT: "revocation",
    HTTPStatus.INSUFFICIENT_STORAGE: "revocation",
}


@attrs.frozen
class OpsAuth:
    """The rules by which the ops port accepts requests."""

    hosts: frozenset[str] = frozenset()
    """Allowed names and addresses in a Host header, in lower case, besides loopback and the
    connection's local address."""
    token: Secret | None = None
    """The bearer token. With a token any Host is accepted: browsers do not send the token with
    requests of a page that reaches this port by DNS rebinding."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the rules of the settings; includes the host of WS_OPS_ADDR if it is a name."""
        bound = {settings.ws_ops_addr.host} - {""}
        return cls(
            frozenset(host_name(host) for host in {*settings.ws_ops_hosts, *bound}),
            settings.ws_ops_token,
        )


def protection(ops_auth: OpsAuth, stats: OpsStats) -> list[Middleware]:
    """Return the middleware of an app of ops pages."""
    return [Middleware(Guard, ops_auth, stats)]


class Guard:
    """Rejects requests that the rules do not accept, and counts every rejection."""

    def __init__(self, app: ASGIApp, ops_auth: OpsAuth, stats: OpsStats) -> None:
        self._app = app
        self._ops_auth = ops_auth
        self._stats = stats
        self._token = None if ops_auth.token is None else ops_auth.token.reveal().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _REASONS:
                self._stats.rejected[_REASONS[message["status"]]] += 1
            await send(message)

        rejection = None if scope["path"] in _OPEN else self._rejection(scope)
        if rejection is None:
            await self._app(scope, receive, count)
            return
        reason, response = rejection
        self._stats.rejected[reason] += 1
        await response(scope, receive, send)

    def _rejection(self, scope: Scope) -> tuple[str, Response] | None:
        headers = Headers(scope=scope)
        is_page = scope["path"] == _INDEX and wants_html(headers)
        is_file = is_page or scope["path"] in CONSOLE_PATHS
        if not (self._token is not None or self._is_allowed_host(headers, scope)):
            text = "this Host is not allowed; allowed: loopback, this address, and WS_OPS_HOSTS\n"
            return "bad_host", PlainTextResponse(text, HTTPStatus.FORBIDDEN)
        if _is_cross_site(headers) and not (is_page and _is_navigation(headers)):
            text = "cross-site requests are rejected\n"
            return "cross_site", PlainTextResponse(text, HTTPStatus.FORBIDDEN)
        if self._token is not None and not (is_file or _has_token(headers, self._token)):
            text = "a bearer token is required: WS_OPS_TOKEN\n"
            challenge = {"WWW-Authenticate": "Bearer"}
            return "unauthorized", PlainTextResponse(text, HTTPStatus.UNAUTHORIZED, challenge)
        return None

    def _is_allowed_host(self, headers: Headers, scope: Scope) -> bool:
        hosts = self._ops_auth.hosts
        if _ANY in hosts:
            return True
        name = host_name(headers.get("host", ""))
        # DNS rebinding needs a name, so the connection's local address is safe.
        arrived = read_address(scope["server"][0]) if scope["server"] else None
        return bool(name) and (is_loopback(name) or name in hosts or name == arrived)


def wants_html(headers: Headers) -> bool:
    """Return whether the request is a browser's for a page."""
    return "text/html" in headers.get("accept", "")


def _is_navigation(headers: Headers) -> bool:
    """Return whether the request follows a link of another site, which cannot read the response."""
    return headers.get("sec-fetch-mode", "") == "navigate" and "origin" not in headers


def _is_cross_site(headers: Headers) -> bool:
    """Return whether a page of another origin sent the request, according to the browser."""
    if headers.get("sec-fetch-site", "none").lower() not in _OWN_SITES:
        return True
    origin = headers.get("origin")
    # Only the scheme may differ: a proxy may terminate TLS.
    return origin is not None and (
        origin.lower().partition("://")[2] != headers.get("host", "").lower()
    )


def _has_token(headers: Headers, token: bytes) -> bool:
    given = headers.get("authorization", "")
    if not given.lower().startswith(_SCHEME):
        return False
    # Starlette decodes headers as latin-1. The comparison takes constant time.
    return hmac.compare_digest(given[len(_SCHEME) :].strip().encode("latin-1"), token)
