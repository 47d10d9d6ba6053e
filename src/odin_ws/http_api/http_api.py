"""The resources that are answered whole: /, /healthz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from odin_ws.handshake.request import (
    PATH,
    HandshakeRequest,
    HTTPRejection,
    HTTPResponse,
    check_method,
    check_no_body,
)

__all__ = ["HTTP_RESOURCES", "HttpApi"]

# By path, the names of the resources in metrics.
_RESOURCES: Final = {"/": "probe", "/healthz": "probe"}

HTTP_RESOURCES: Final = tuple(sorted(set(_RESOURCES.values())))


class HttpApi:
    """Answers requests that ask for no connection.

    `is_ready`: whether a load balancer should send clients here; set by who knows the service.
    `requests`: how many were answered, by resource.
    """

    def __init__(self) -> None:
        self.is_ready: Callable[[], bool] = _never
        self.requests: Counter[str] = Counter()

    def respond(self, request: HandshakeRequest) -> bytes:
        """The answer. Raises HTTPRejection."""
        resource = _RESOURCES.get(request.path)
        if resource is None:
            text = f"nothing here; the WebSocket is at {PATH}"
            raise HTTPRejection(HTTPStatus.NOT_FOUND, "not_found", text)
        check_method(request, "GET", "HEAD")
        check_no_body(request)
        self.requests[resource] += 1
        response = _probe_response(is_ready=self.is_ready())
        return response.encode(head=request.method == "HEAD")


def _probe_response(*, is_ready: bool) -> HTTPResponse:
    """One word: load balancers read the status, and strangers learn nothing more."""
    headers = [("Cache-Control", "no-store")]
    if is_ready:
        return HTTPResponse(HTTPStatus.OK, b"ok\n", headers=headers)
    return HTTPResponse(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n", headers=headers)


def _never() -> bool:
    return False
