"""CORS: which pages may read what /sse and /snapshot answer (WS_ALLOWED_ORIGINS)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from odin_ws.auth.origins import Origins
from odin_ws.handshake.request import HandshakeRequest, HTTPResponse

__all__ = ["cors_headers", "preflight_response"]

# What a page may set. Browsers set Cache-Control and Accept of an EventSource without asking.
_ALLOWED_HEADERS: Final = "Authorization, Last-Event-ID"

# For so long a browser need not ask again: two hours is the most that Chromium takes.
_MAX_AGE_SECONDS: Final = 7200


def cors_headers(request: HandshakeRequest, origins: Origins) -> list[tuple[str, str]]:
    """The headers that let a page of an allowed origin read the response.

    The origin itself and not `*`, so the response is of use to no other page; no cookies are used,
    so none are allowed.
    """
    origin = request.headers.get("origin")
    if origin is None or not origins.allows(origin):
        return [("Vary", "Origin")]
    return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]


def preflight_response(request: HandshakeRequest, origins: Origins) -> HTTPResponse:
    """The answer to what a browser asks before a request with headers of the page's own."""
    headers = [("Allow", "GET, OPTIONS"), *cors_headers(request, origins)]
    if headers[1][0] != "Vary":
        headers += [
            ("Access-Control-Allow-Methods", "GET"),
            ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(_MAX_AGE_SECONDS)),
        ]
    return HTTPResponse(HTTPStatus.NO_CONTENT, b"", headers=headers)
