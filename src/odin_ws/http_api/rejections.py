"""Rejections of /sse and /snapshot in the form that web pages and an EventSource can use."""

from __future__ import annotations

import random
from http import HTTPStatus
from typing import Final

import attrs

from odin_ws.auth.origins import Origins
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection, HTTPResponse
from odin_ws.http_api.cors import cors_headers
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.event_stream import event, retry
from odin_ws.protocol.responses import error_response

__all__ = ["EVENT_STREAM", "rejection_for_page"]

EVENT_STREAM: Final = "text/event-stream"

# Statuses that may be temporary.
_FOR_NOW: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

_RETRY_SECONDS: Final = 5


def rejection_for_page(
    request: HandshakeRequest, rejection: HTTPRejection, origins: Origins
) -> HTTPRejection:
    """Return a rejection that a page may read.

    An EventSource never reconnects after a status other than 200. So it gets a temporary rejection
    as an event, with its reconnect time.
    """
    headers = [*rejection.headers, *cors_headers(request, origins)]
    if rejection.status not in _FOR_NOW or not _is_event_source(request):
        return attrs.evolve(rejection, headers=headers)
    seconds = int(dict(headers).get("Retry-After", _RETRY_SECONDS))
    retry_ms = 1000 * seconds + random.randrange(1000)  # noqa: S311 -- jitter, no secret
    error = CommandError(ErrorCode.NOT_AVAILABLE, rejection.text, retry=True, retry_ms=retry_ms)
    content = retry(retry_ms) + event(b"error", error_response(error))
    headers.append(("Cache-Control", "no-store"))
    return attrs.evolve(
        rejection, response=HTTPResponse(HTTPStatus.OK, content, EVENT_STREAM, headers)
    )


def _is_event_source(request: HandshakeRequest) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "").lower()
