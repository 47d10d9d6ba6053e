"""The state of the service, which only advances."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Lifecycle", "ServiceState"]


class ServiceState(IntEnum):
    """The states of the service, in order."""

    STARTING = 0
    """Kafka has not been read to its end yet; not ready, but clients are served."""
    SERVING = 1
    """Ready."""
    DRAINING = 2
    """A stop was requested: not ready. New connections are still served."""
    CLOSING = 3
    """New connections are rejected; connected clients are closed in waves."""
    STOPPED = 4
    """No client is connected."""


class Lifecycle:
    """The state of one service, for health, readiness and admission."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = ServiceState.STARTING

    def enter(self, state: ServiceState) -> None:
        """Advance to a later state; one may be skipped, for example by a stop during the start."""
        assert state >= self.state, f"{state.name} after {self.state.name}"
        self.state = state

    @property
    def is_draining(self) -> bool:
        """True if a stop was requested."""
        return self.state >= ServiceState.DRAINING

    @property
    def is_closing(self) -> bool:
        """True if new connections are rejected."""
        return self.state >= ServiceState.CLOSING
