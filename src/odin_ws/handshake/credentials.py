"""The JWT and the subprotocol of a handshake request."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from odin_ws.handshake.request import HandshakeRequest, HTTPRejection

__all__ = ["bearer_token", "select_subprotocol"]

# Browsers cannot set headers but can offer subprotocols: one has the token, another is ours, which
# the response must select, or the browser disconnects. Kubernetes' API server does the same.
_OURS: Final = "odin.v"
_TOKEN: Final = "bearer."  # noqa: S105 -- the prefix of a token

_OFFER: Final = "sec-websocket-protocol"

_SCHEME: Final = "bearer "


def bearer_token(request: HandshakeRequest, *, in_query: bool) -> str | None:
    """Return the token of a request; None without one. Raises HTTPRejection if it has several.

    `in_query`: the parameter `token` counts too.
    """
    authorization = request.headers.get("authorization", "")
    found = [authorization[len(_SCHEME) :].strip()] * authorization.lower().startswith(_SCHEME)
    found += [name[len(_TOKEN) :] for name in _offered(request) if name.startswith(_TOKEN)]
    if in_query and "token" in request.query:
        found.append(request.query["token"])
    if len(found) > 1:
        # RFC 6750, 2: a client must not use more than one method.
        raise HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_request", "more than one token")
    return found[0] if found else None


def select_subprotocol(request: HandshakeRequest) -> str | None:
    """Return the subprotocol for the response; None if the client offers none of ours.

    It is named after the requested version: `odin.v1`, `odin.v0`. Raises HTTPRejection for a
    browser that offers only a token: it would disconnect without an explanation.
    """
    if _OFFER not in request.headers:
        return None
    offered = _offered(request)
    ours = _OURS + request.query.get("v", "1")
    if ours in offered:
        return ours
    if any(name.startswith(_TOKEN) for name in offered):
        text = f"Sec-WebSocket-Protocol: offer {ours} beside the token"
        raise HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_request", text)
    return None


def _offered(request: HandshakeRequest) -> list[str]:
    return [name.strip() for name in request.headers.get(_OFFER, "").split(",")]
