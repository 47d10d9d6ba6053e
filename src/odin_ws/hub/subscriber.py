"""One subscriber in the hub: patterns, sequence number, pending messages, where to write."""

from __future__ import annotations

from collections.abc import Callable

from odin_ws.hub.conflation import Conflation
from odin_ws.hub.log_changes import LiveFrom
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.wire_format import WireFormat, wire_format

__all__ = ["Due", "Subscriber"]


class Due(list[ChannelMessage]):
    """Messages that are due to some subscribers, who share the list."""

    __slots__ = ("receivers",)

    # Set by whoever shares the list out: an __init__ would take longer than all else there.
    receivers: int
    """How many share it, or shared it before they got another one."""


class Subscriber:
    """Who gets messages: its patterns, its sequence number, and where its bytes go.

    `deliver` takes whole frames, never waits and never raises: it is the connection's send queue.
    `form`: how its messages are written.
    `pending` is what the running dispatch cycle still has to write to this subscriber; it is shared
    with others who get the same, so it is replaced, never changed. `conflation`: where it asked
    for the latest only. `resend_from`: since that place in the hub's order its numbers run without
    a hole under the same patterns, so that what it was sent can be found again. `wants_positions`:
    it keeps positions, so it is told them from time to time. `live_from`: by pattern, where its
    subscription began: it was sent everything behind. `categories`: how many of its patterns end in
    each category, or in `*`: a thousand patterns need not be looked through to find out which
    topics they read from.
    """

    __slots__ = (
        "categories",
        "conflation",
        "deliver",
        "form",
        "live_from",
        "patterns",
        "pending",
        "resend_from",
        "seq",
        "wants_positions",
    )

    def __init__(self, deliver: Callable[[bytes], None], form: WireFormat | None = None) -> None:
        self.deliver = deliver
        self.form = form or wire_format()
        self.patterns: set[str] = set()
        self.categories: dict[str, int] = {}
        self.seq = 0
        self.pending: Due | None = None
        self.conflation: Conflation | None = None
        self.resend_from = 0
        self.wants_positions = False
        self.live_from: dict[str, LiveFrom] = {}
