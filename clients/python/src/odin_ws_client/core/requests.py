"""Requests of the application on a live connection: subscribe and unsubscribe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

import attrs

from odin_ws_client.core.errors import ClientClosed, ClientError, QueueFull
from odin_ws_client.core.items import Subscribed, Unsubscribed
from odin_ws_client.core.subscription import Subscription

__all__ = ["Request", "RequestKind", "Requests"]


class RequestKind(Enum):
    """The command of a request."""

    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()


@attrs.define(eq=False)
class Request:
    """A command of the application, and its answer."""

    kind: RequestKind
    """The command."""
    subscription: Subscription
    """The names and options of the command."""
    on_result: Callable[[], object]
    """Called when `result` or `error` is set; wakes the caller."""
    result: Subscribed | Unsubscribed | None = None
    """The server's answer, if the command took effect."""
    error: ClientError | None = None
    """The failure, if the command did not take effect."""


class Requests:
    """A FIFO queue of requests; a request is removed when the answer comes.

    Unanswered requests of a lost connection are sent again on the next connection.
    """

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._send: Callable[[], None] = _nobody
        self._ended_with: ClientError | None = None

    def add(self, request: Request) -> None:
        """Queue a request, and send it on the connection, or on the next one."""
        if self._ended_with is not None:
            _fail(request, self._ended_with)
            return
        self._waiting.append(request)
        self._send()

    @contextmanager
    def sent_by(self, send: Callable[[], None]) -> Iterator[None]:
        """Call `send` for each new request during the block, which is one connection."""
        self._send = send
        try:
            yield
        finally:
            self._send = _nobody

    def withdraw(self, request: Request) -> None:
        """Remove a request; the answer to a request already sent is then ignored."""
        if request in self._waiting:
            self._waiting.remove(request)

    def waiting(self) -> list[Request]:
        """Return the requests without an answer."""
        return list(self._waiting)

    def resolve(self, request: Request, result: Subscribed | Unsubscribed) -> None:
        """Set the result of a request that took effect, and wake its caller."""
        self.withdraw(request)
        request.result = result
        request.on_result()

    def reject(self, request: Request, error: ClientError) -> None:
        """Set the error of a rejected request, and wake its caller."""
        self.withdraw(request)
        _fail(request, error)

    def overflow(self) -> None:
        """Fail all requests with QueueFull, because a full queue blocks reading the responses."""
        why = "the application must take items before the server's response can be read"
        self._fail_all(QueueFull(why))

    def close(self, error: ClientError | None) -> None:
        """Fail all requests, now and later, with `error`, or with ClientClosed if it is None."""
        self._ended_with = error or ClientClosed("the client has ended")
        self._fail_all(self._ended_with)

    def _fail_all(self, error: ClientError) -> None:
        while self._waiting:
            _fail(self._waiting.popleft(), error)


def _nobody() -> None:
    """Do nothing: without a connection requests wait."""


def _fail(request: Request, error: ClientError) -> None:
    request.error = error
    request.on_result()
