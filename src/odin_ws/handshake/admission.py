"""Admission: 503 for too many connections, memory, CPU, event loop delay, draining."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import attrs

from odin_ws.handshake.memory_budget import CONNECTION_BYTES, MemoryBudget
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection, check_upgrade
from odin_ws.handshake.retry_after import retry_after
from odin_ws.lease import Lease
from odin_ws.lifecycle import Lifecycle
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.wire_format import Frames, WireFormat, wire_format

__all__ = ["CAPACITY_REJECTIONS", "Admission"]

# The labels of rejections for lack of capacity.
CAPACITY_REJECTIONS: Final = (
    "cpu",
    "draining",
    "loop_delay",
    "max_connections",
    "max_pending_handshakes",
    "memory",
)

# The texts for exceeded limits.
_OVERLOADED: Final = {
    "cpu": "the server's CPU is fully used; retry",
    "loop_delay": "the server's event loop is overloaded; retry",
    "memory": "the server's memory is fully used; retry",
}

# The parameters of a request without a query.
_USUAL: Final = wire_format()


@attrs.define(eq=False)
class Admission:
    """Counts connections and decides whether another one is admitted.

    `overload`: returns the limit that is exceeded now ("memory", "cpu", "loop_delay"), or None.
    `budget`: counts the memory of each connection.
    """

    max_connections: int
    overload: Callable[[], str | None]
    lifecycle: Lifecycle = attrs.field(factory=Lifecycle)
    active: int = 0
    # By label: all rejections, and those for lack of capacity.
    rejections: Counter[str] = attrs.field(factory=Counter)
    capacity_rejections: Counter[str] = attrs.field(factory=Counter)
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)

    def admit(self, request: HandshakeRequest) -> Lease[WireFormat]:
        """Count a WebSocket for the length of the block. Raises HTTPRejection."""
        check_upgrade(request)
        form = _form(request)
        self._acquire_slot()
        return Lease(form, self._release_slot)

    def admit_request(self) -> Lease[None]:
        """Count a plain HTTP request. Raises HTTPRejection."""
        self._acquire_slot()
        return Lease(None, self._release_slot)

    def check_serving(self) -> None:
        """Check again before a connection is served: it may have waited since it was admitted.

        Raises HTTPRejection once the server closes its connections: it would not close this one.
        """
        if self.lifecycle.is_closing:
            raise _busy("draining", "the server is restarting")

    def _acquire_slot(self) -> None:
        self.check_serving()
        if self.active >= self.max_connections:
            raise _busy("max_connections", f"all {self.max_connections} connections are in use")
        if (limit := self.overload()) is not None:
            raise _busy(limit, _OVERLOADED[limit])
        self.active += 1
        self.budget.spend(CONNECTION_BYTES)

    def _release_slot(self) -> None:
        self.active -= 1

    def count(self, rejection: HTTPRejection) -> None:
        """Count a rejection that is sent."""
        self.rejections[rejection.label] += 1
        if rejection.label in CAPACITY_REJECTIONS:
            self.capacity_rejections[rejection.label] += 1


def _form(request: HandshakeRequest) -> WireFormat:
    if not request.query:
        return _USUAL
    version = request.query.get("v", "1")
    if version not in {"0", "1"}:
        raise HTTPRejection(
            HTTPStatus.BAD_REQUEST, "bad_request", f"v: must be 0 or 1, not {version!r}"
        )
    frames = request.query.get("frames", Frames.SINGLE)
    if frames not in tuple(Frames):
        text = f"frames: must be {' or '.join(Frames)}, not {frames!r}"
        raise HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_request", text)
    return wire_format(Dialect(int(version)), Frames(frames))


def _busy(label: str, text: str) -> HTTPRejection:
    return HTTPRejection(HTTPStatus.SERVICE_UNAVAILABLE, label, text, [retry_after()])
