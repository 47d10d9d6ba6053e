"""One subscriber in the hub: patterns, sequence number, send queue; lists of pending messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from odin_ws.hub.conflation import Conflation
from odin_ws.hub.log_changes import LiveFrom
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.wire_format import WireFormat, wire_format

if TYPE_CHECKING:
    from odin_ws.hub.pacing import Pace

__all__ = ["Due", "MarkedDue", "Merger", "Subscriber"]


class Due(list[ChannelMessage]):
    """Pending messages of some subscribers, who share the list."""

    __slots__ = ("receivers",)

    # Set when the list is distributed: an __init__ would take longer than all else there.
    receivers: int
    """The number of subscribers that share it, or shared it before a merge."""

    skipped: int = 0
    """The number of skipped sequence numbers before the first message."""

    ahead: bool = False
    """True if an older message of the same partition is delayed and comes later."""


class MarkedDue(Due):
    """Pending messages that follow skipped ones, or overtake others."""

    __slots__ = ("ahead", "skipped")

    def __init__(
        self, messages: Iterable[ChannelMessage], *, skipped: int, ahead: bool = False
    ) -> None:
        super().__init__(messages)
        self.receivers = 0
        self.skipped = skipped
        self.ahead = ahead


class Merger:
    """Merged lists of pending messages, shared by all subscribers that need the same ones."""

    def __init__(self) -> None:
        # The lists are kept with the result: an id is unique only while its object lives.
        self._merged: dict[tuple[int, ...], tuple[Due, Sequence[Due]]] = {}

    def merge(self, lists: Sequence[Due]) -> Due:
        """Return the messages of some lists, each once, in the hub's order.

        All lists of a subscriber are merged at once: merged one by one, a thousand lists would be
        copied half a million times.
        """
        key = tuple(map(id, lists))
        known = self._merged.get(key)
        if known is None:
            every = {message.order: message for due in lists for message in due}
            skipped = sum(due.skipped for due in lists)
            ordered = (every[order] for order in sorted(every))
            merged = MarkedDue(ordered, skipped=skipped) if skipped else Due(ordered)
            merged.receivers = 0
            known = self._merged[key] = merged, lists
        known[0].receivers += 1
        return known[0]


class Subscriber:
    """A receiver of messages: its patterns, its sequence number, and its send queue."""

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
        """Sends whole frames, never waits and never raises: the connection's send queue."""
        self.form = form or wire_format()
        """The wire format of the messages."""
        self.patterns: set[str] = set()
        self.categories: dict[str, int] = {}
        """The number of patterns by category, or `*`: finds the topics of a thousand patterns."""
        self.seq = 0
        """The sequence number of the last message."""
        self.pending: Due | None = None
        """The messages of the running dispatch cycle that are not written yet. The list is shared
        with other subscribers, so it is replaced, never changed."""
        self.conflation: Conflation | None = None
        """The held messages of a client with `delivery: "latest"`."""
        self.resend_from = 0
        """The hub order since which sequence numbers have no gap and patterns have not changed:
        sent messages can be found again from there on."""
        self.wants_positions = False
        """True if the client gets positions periodically."""
        self.live_from: dict[str, LiveFrom] = {}
        """By pattern the positions from which on all its messages were sent."""
        self.options: dict[str, SubscriptionOptions] | None = None
        """By pattern the options of subscriptions that have some; None without any."""
        self.paces: dict[float, Pace] | None = None
        """By rate the messages at that rate; None without such subscriptions."""

    def options_of(self, pattern: str) -> SubscriptionOptions:
        """Return the options of the subscription to a pattern."""
        return PLAIN if self.options is None else self.options.get(pattern, PLAIN)
