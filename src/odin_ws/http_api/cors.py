"""CORS: which pages may read the responses of /sse and /snapshot (WS_ALLOWED_ORIGINS)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from odin_ws.auth.origins import Origins
from odin_ws.handshake.request import HandshakeRequest, HTTPResponse

__all__ = ["cors_headers", "preflight_response"]

# Headers that a page may set. Browsers set Cache-Control and Accept of an EventSource themselves.
_ALLOWED_HEADERS: Final = "Authorization, Last-Event-ID"

# How long a browser may cache it: two hours is the maximum of Chromium.
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
    """Return the response to a preflight request of a browser."""
    headers = [("Allow", "GET, OPTIONS"), *cors_headers(request, origins)]
    if headers[1][0] != "Vary":
        headers += [
            ("Access-Control-Allow-Methods", "GET"),
            ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(_MAX_AGE_SECONDS)),
        ]
    return HTTPResponse(HTTPStatus.NO_CONTENT, b"", headers=headers)
