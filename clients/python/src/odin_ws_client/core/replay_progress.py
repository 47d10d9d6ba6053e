"""The progress of a replay: the messages still to come, and the positions that it advances."""

from __future__ import annotations

from odin_ws_client.core.items import Message
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.subscription_set import Step, SubscriptionSet

__all__ = ["ReplayProgress"]


class ReplayProgress:
    """The current replay of a connection; the server runs replays one by one."""

    def __init__(self, subscriptions: SubscriptionSet) -> None:
        self._subscriptions = subscriptions
        # True if replayed messages before the positions are delivered: a snapshot has some.
        self._with_snapshot = False
        # The command of the replay, and the number of replayed messages still to come; None for an
        # unknown number.
        self._step: Step | None = None
        self._remaining: int | None = 0
        # Its own positions, if the replay runs beside live messages.
        self._behind: OffsetTracker | None = None

    @property
    def is_running(self) -> bool:
        """True if replayed messages are still to come."""
        return self._remaining != 0

    @property
    def tracker(self) -> OffsetTracker:
        """The tracker that the replay advances."""
        return self._subscriptions.tracker if self._behind is None else self._behind

    def begin(
        self, step: Step, behind: OffsetTracker | None, replayed: int | None, *, is_replayed: bool
    ) -> None:
        """Begin the replay that an ack announces, if `is_replayed`."""
        self._with_snapshot, self._behind = step.with_snapshot, behind
        if is_replayed:
            self._step, self._remaining = step, replayed

    def advance(self, message: Message) -> bool:
        """Advance the positions to a message; return whether to deliver the message."""
        if self._subscriptions.is_split:
            is_new = self._subscriptions.advance(message, self._behind)
        else:
            is_new = self._subscriptions.tracker.advance(message)
        return is_new or (message.replay and self._with_snapshot)

    def count(self) -> bool:
        """Count a replayed message; return whether it was the last."""
        if not self._remaining:
            return False
        self._remaining -= 1
        return not self._remaining

    def end(self) -> None:
        """End the replay: all replayed messages have come."""
        self._remaining = 0
        if self._step is not None:
            for group in self._step.groups:
                group.snapshot_due = False
        if self._behind is not None:
            self._subscriptions.caught_up(self._behind)
        self._step = self._behind = None
