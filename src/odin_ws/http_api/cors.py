"""CORS: which pages may read the responses of /sse and /snapshot (WS_ALLOWED_ORIGINS)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from odin_ws.auth.origins import Origins
from odin_ws.handshake.request import HandshakeRequest, HTTPResponse

__all__ = ["cors_headers", "preflight_response"]

# Headers that a page may set. Browsers set Cache-Control and Accept of an EventSource themselves.
_ALLOWED_HEADERS: Final = "Authorization, Last-Event-ID"

# Time for which a browser may cache a preflight response: two hours is Chromium's maximum.
_MAX_AGE_SECONDS: Final = 7200


def cors_headers(request: HandshakeRequest, origins: Origins) -> list[tuple[str, str]]:
    """Return the headers that let a page of an allowed origin read the response.

    They name the origin instead of `*`, so no other page can read the response. They do not allow
    cookies, because none are used.
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
