"""Requests of the application on a live connection: subscribe and unsubscribe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

import attrs

from odin_ws_client.core.errors import ClientClosed, ClientError, NotAnswered
from odin_ws_client.core.items import Subscribed, Unsubscribed
from odin_ws_client.core.subscription import Subscription

__all__ = ["Request", "RequestKind", "Requests"]


class RequestKind(Enum):
    """The command of a request."""

    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()


@attrs.define(eq=False)
class Request:
    """One command of the application, until it is answered.

    `on_answer`: wakes the caller, when either `result` or `error` is set.
    """

    kind: RequestKind
    subscription: Subscription
    on_answer: Callable[[], object]
    result: Subscribed | Unsubscribed | None = None
    error: ClientError | None = None


class Requests:
    """The requests in order; each stays until it is answered.

    Unanswered requests of a lost connection are sent again on the next one.
    """

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._send: Callable[[], None] = _nobody
        self._ended_with: ClientError | None = None

    def add(self, request: Request) -> None:
        """Have a request sent, now or when there is a connection."""
        if self._ended_with is not None:
            _fail(request, self._ended_with)
            return
        self._waiting.append(request)
        self._send()

    @contextmanager
    def sent_by(self, send: Callable[[], None]) -> Iterator[None]:
        """Have `send` called for the length of the block when there is something to send."""
        self._send = send
        try:
            yield
        finally:
            self._send = _nobody

    def withdraw(self, request: Request) -> None:
        """Ignore the answer to a request, because the caller left; an unsent request is dropped."""
        if request in self._waiting:
            self._waiting.remove(request)

    def waiting(self) -> list[Request]:
        """Return the requests without an answer."""
        return list(self._waiting)

    def answer(self, request: Request, result: Subscribed | Unsubscribed) -> None:
        """The server has carried it out."""
        self.withdraw(request)
        request.result = result
        request.on_answer()

    def reject(self, request: Request, error: ClientError) -> None:
        """The server has rejected it."""
        self.withdraw(request)
        _fail(request, error)

    def overflow(self) -> None:
        """Nothing more can be read before an answer comes."""
        why = "the application has to take items before the server's answer can be read"
        self._fail_all(NotAnswered(why))

    def close(self, error: ClientError | None) -> None:
        """The client has ended, with an error or as it should."""
        self._ended_with = error or ClientClosed("the client has ended")
        self._fail_all(self._ended_with)

    def _fail_all(self, error: ClientError) -> None:
        while self._waiting:
            _fail(self._waiting.popleft(), error)


def _nobody() -> None:
    """There is no connection: requests wait."""


def _fail(request: Request, error: ClientError) -> None:
    request.error = error
    request.on_answer()
