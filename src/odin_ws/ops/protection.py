"""The ops port's own bearer token."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from odin_ws.settings import Secret

__all__ = ["protection"]

# Probes of orchestrators and load balancers carry no secrets; these two tell them a word.
_OPEN: Final = frozenset({"/health/live", "/health/ready"})

_SCHEME: Final = "bearer "


def protection(token: Secret | None) -> list[Middleware]:
    """What an app of ops pages is wrapped in; nothing where there is no token."""
    return [] if token is None else [Middleware(BearerRequired, token)]


class BearerRequired:
    """Answers 401 to whoever has not this token, on all pages but those for probes."""

    def __init__(self, app: ASGIApp, token: Secret) -> None:
        self._app = app
        self._token = token.reveal().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's lifespan, which asks for nothing."""
        if scope["type"] == "lifespan" or scope["path"] in _OPEN or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        answer = PlainTextResponse(
            "a bearer token is needed: WS_OPS_TOKEN\n",
            HTTPStatus.UNAUTHORIZED,
            {"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "")
        if not given.lower().startswith(_SCHEME):
            return False
        # Starlette reads headers as latin-1. Takes as long whatever is wrong.
        token = given[len(_SCHEME) :].strip().encode("latin-1")
        return hmac.compare_digest(token, self._token)
