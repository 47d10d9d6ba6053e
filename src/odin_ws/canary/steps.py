"""The steps of a try, why one failed, and the results of all tries."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import attrs

__all__ = ["CanaryStats", "Step", "StepFailed", "TryResult"]


class Step(StrEnum):
    """The steps, in order."""

    CONNECT = "connect"
    """A TCP connection."""
    TLS = "tls"
    """Keys and certificate, where TLS is spoken."""
    UPGRADE = "upgrade"
    """The WebSocket handshake, which is also authentication and admission."""
    SUBSCRIBE = "subscribe"
    """The ack of a subscription to one channel."""
    HEARTBEAT = "heartbeat"
    """The pong of a heartbeat."""
    CLOSE = "close"
    """The close handshake."""


class StepFailed(Exception):
    """A step failed; the message has the step and the reason."""

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


@attrs.define
class TryResult:
    """The results of one try so far."""

    times: dict[Step, float] = attrs.field(factory=dict)
    """Seconds of each step that succeeded."""
    certificate_expires: float | None = None
    """When the server's certificate does, in Unix time; None without TLS."""
    server_ms: int | None = None
    """The server's clock in its heartbeat response, milliseconds of Unix time."""


@attrs.define(eq=False)
class CanaryStats:
    """The results of all tries since the start."""

    tries: int = 0
    """The number of finished tries."""
    failures: Counter[Step] = attrs.field(factory=Counter)
    """Failed tries, by the step in which they ended."""
    seconds: dict[Step, float] = attrs.field(factory=dict)
    """The time that each step took when it succeeded last."""
    failure: StepFailed | None = None
    """Why the last try failed; None if it did not, or if there was none yet."""
