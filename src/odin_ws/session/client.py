"""A connection, as its commands and subscriptions see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from odin_ws.auth.grants import Grant
from odin_ws.connection.outbox import Outbox
from odin_ws.resume import Caller

__all__ = ["Client", "Job"]

Job = Callable[[], Awaitable[None]]


class Client(Caller, Protocol):
    """What tests stand in for: a `Connection` without its socket."""

    outbox: Outbox
    grant: Grant

    def start(self, task: Job) -> None:
        """Run a task that ends with the connection."""
        ...

    def fall_behind(self) -> None:
        """Close: it is too slow."""
        ...
