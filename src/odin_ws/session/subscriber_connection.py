"""The protocol class of connections, as sessions and subscriptions use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from odin_ws.auth.grants import Grant
from odin_ws.connection.send_queue import SendQueue
from odin_ws.resume import ReplayClient

__all__ = ["Job", "SubscriberConnection"]

Job = Callable[[], Awaitable[None]]


class SubscriberConnection(ReplayClient, Protocol):
    """A `Connection` without its socket.

    A protocol because tests of subscriptions run without frames and requests.
    """

    send_queue: SendQueue
    grant: Grant

    @property
    def replaying(self) -> bool:
        """True if a started task is still running."""
        ...

    def start(self, task: Job) -> None:
        """Run a task that ends with the connection."""
        ...
