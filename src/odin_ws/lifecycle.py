"""The life of the service: one state, which only goes forward."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Lifecycle", "ServiceState"]


class ServiceState(IntEnum):
    """What the service does, in the order in which it comes."""

    STARTING = 0
    """Kafka has not been read up to its end yet; not ready, but clients are served."""
    SERVING = 1
    """Ready."""
    DRAINING = 2
    """A stop was asked for: not ready. Whom load balancers still send is served."""
    CLOSING = 3
    """Nobody is accepted any more, and those who are connected are closed in waves."""
    STOPPED = 4
    """Nobody is connected."""


class Lifecycle:
    """The state of one service. Health, readiness and admission ask it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = ServiceState.STARTING

    def enter(self, state: ServiceState) -> None:
        """Go on to a later state; one may be left out, as where a stop comes during the start."""
        assert state >= self.state, f"{state.name} after {self.state.name}"
        self.state = state

    @property
    def is_draining(self) -> bool:
        """Whether a stop was asked for."""
        return self.state >= ServiceState.DRAINING

    @property
    def is_closing(self) -> bool:
        """Whether nobody is accepted any more."""
        return self.state >= ServiceState.CLOSING
