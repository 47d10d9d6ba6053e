"""The steps of a try, the error of a failed step, and the results of all tries."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import attrs

__all__ = ["CanaryStats", "Step", "StepFailed", "TryResult"]


class Step(StrEnum):
    """The steps of a try, in order."""

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
    """A step failed; the message has the step and the reason.

    Args:
        step: the step.
        reason: what failed.
        status: the HTTP status of a response instead of the upgrade; 0 without one.
    """

    def __init__(self, step: Step, reason: str, status: int = 0) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.status = status


@attrs.define
class TryResult:
    """The results of one try so far."""

    times: dict[Step, float] = attrs.field(factory=dict)
    """Seconds of each successful step, by step."""
    certificate_expires: float | None = None
    """When the server's certificate expires, in Unix time; None without TLS."""
    server_ms: int | None = None
    """The server's clock in its heartbeat response, in milliseconds of Unix time."""


@attrs.define(eq=False)
class CanaryStats:
    """The results of all tries since the start."""

    tries: int = 0
    """The number of finished tries."""
    failures: Counter[Step] = attrs.field(factory=Counter)
    """The number of failed tries, by the failed step."""
    seconds: dict[Step, float] = attrs.field(factory=dict)
    """Seconds of each step when it last succeeded."""
    failure: StepFailed | None = None
    """The error of the last try; None after a success, and before the first try."""
