"""One subscriber in the hub: patterns, sequence number, pending messages, where to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from odin_ws.hub.conflation import Conflation
from odin_ws.hub.log_changes import LiveFrom
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.wire_format import WireFormat, wire_format

if TYPE_CHECKING:
    from odin_ws.hub.pacing import Pace

__all__ = ["Due", "MarkedDue", "Subscriber"]


class Due(list[ChannelMessage]):
    """Messages that are due to some subscribers, who share the list."""

    __slots__ = ("receivers",)

    # Set by whoever shares the list out: an __init__ would take longer than all else there.
    receivers: int
    """How many share it, or shared it before they got another one."""

    skipped: int = 0
    """How many numbers are left out before the first one."""

    ahead: bool = False
    """Whether an older message of the same partition is held back and comes later."""


class MarkedDue(Due):
    """Due messages that say what was skipped before them, or that they are ahead of others."""

    __slots__ = ("ahead", "skipped")

    def __init__(
        self, messages: Iterable[ChannelMessage], *, skipped: int, ahead: bool = False
    ) -> None:
        super().__init__(messages)
        self.receivers = 0
        self.skipped = skipped
        self.ahead = ahead


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
    topics they read from. `options`: by pattern, of the subscriptions that have any; None where
    none has. `paces`: by rate, what it is sent at that rate; None without such subscriptions.
    """

    __slots__ = (
        "categories",
        "conflation",
        "deliver",
        "form",
        "live_from",
        "options",
        "paces",
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
        self.options: dict[str, SubscriptionOptions] | None = None
        self.paces: dict[float, Pace] | None = None

    def options_of(self, pattern: str) -> SubscriptionOptions:
        """The options of its subscription to a pattern."""
        return PLAIN if self.options is None else self.options.get(pattern, PLAIN)
