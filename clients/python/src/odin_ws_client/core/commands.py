"""The command sequence of one connection: resume, subscribe, unsubscribe."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import orjson

from odin_ws_client.core.errors import RejectedName, SubscriptionRejected
from odin_ws_client.core.fields import read_rejected
from odin_ws_client.core.items import Resumed, Subscribed, Unsubscribed
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.requests import Request, RequestKind, Requests
from odin_ws_client.core.subscription import Subscription
from odin_ws_client.core.subscription_set import Group, Step, SubscriptionSet

__all__ = ["Commands"]

_NOT_SUBSCRIBED: Final = "NOT_SUBSCRIBED"


class Commands:
    """The commands of a connection: first the resumes, then the requests of the application.

    Each command waits for the answer to the previous one, because the server's error for a command
    above the rate limit does not name the command.
    """

    def __init__(self, subscriptions: SubscriptionSet, requests: Requests) -> None:
        self._subscriptions = subscriptions
        self._requests = requests
        self._plan: deque[Step] = deque()
        self.number = 0
        """The id of the last command."""
        # The command in flight: a step of the plan, or names to unsubscribe; and the request, if
        # the command is from the application.
        self._step: Step | None = None
        self._ending: Subscription | None = None
        self._request: Request | None = None
        self._rejected: tuple[RejectedName, ...] = ()

    def begin(self) -> list[Unsubscribed]:
        """Plan a new connection; return the pending unsubscribes, whose names are not resumed."""
        ended: list[Unsubscribed] = []
        for request in self._requests.waiting():
            if request.kind is RequestKind.SUBSCRIBE:
                break
            if (left := self._known(request)) is not None:
                self._subscriptions.end(left)
                ended.append(Unsubscribed(left.all_names, self._rejected))
                self._requests.resolve(request, ended[-1])
        self._plan = self._subscriptions.plan()
        return ended

    @property
    def is_idle(self) -> bool:
        """True if no subscription is left to begin or resume."""
        return not self._plan

    @property
    def awaits_ack(self) -> bool:
        """True if a subscribe or resume is in flight."""
        return self._step is not None

    @property
    def awaits_end(self) -> bool:
        """True if an unsubscribe is in flight."""
        return self._ending is not None

    @property
    def is_resuming(self) -> bool:
        """True if a resume is in flight."""
        return self._step is not None and self._step.tracker is not None

    def next(self, *, is_replaying: bool) -> str | None:
        """Return the text of the next command; None if a command is in flight or none is pending.

        During a replay the server defers subscribe and resume, so only an unsubscribe is returned.
        """
        if self.awaits_ack or self.awaits_end:
            return None
        if self._plan:
            if is_replaying:
                return None
            self._step = self._plan.popleft()
        elif not self._take_request(is_replaying=is_replaying):
            return None
        self.number += 1
        return self.text()

    def text(self) -> str:
        """Return the text of the command in flight."""
        if self._step is not None:
            return self._step.text(self.number)
        assert self._ending is not None
        data = self._ending.names()
        return orjson.dumps({"type": "unsubscribe", "id": self.number, "data": data}).decode()

    def _take_request(self, *, is_replaying: bool) -> bool:
        held: set[str] = set()
        for request in self._requests.waiting():
            names = request.subscription.all_names
            if request.kind is RequestKind.SUBSCRIBE:
                if not is_replaying:
                    subscription = request.subscription
                    group = Group(subscription, begun=False, snapshot_due=subscription.snapshot)
                    self._step = Step([group], subscription, None, subscription.snapshot)
                    self._request = request
                    return True
                held.update(names)
            elif held.isdisjoint(names) and (left := self._known(request)) is not None:
                self._ending, self._request = left, request
                return True
        return False

    def _known(self, request: Request) -> Subscription | None:
        """Return the subscribed names of `request`; reject a request without any, return None."""
        unknown = self._subscriptions.unknown(request.subscription)
        why = "not subscribed under this name"
        self._rejected = tuple(RejectedName(name, _NOT_SUBSCRIBED, why) for name in unknown)
        known = set(request.subscription.all_names).difference(unknown)
        left = request.subscription.only(known)
        if left is None:
            error = SubscriptionRejected(_NOT_SUBSCRIBED, why, self._rejected)
            self._requests.reject(request, error)
            return None
        # Names only: unsubscribe has no options.
        return Subscription(left.channels, left.topics, left.bundles, left.tokens)

    # Answers.

    def accepted(
        self, item: Subscribed | Resumed, topics: frozenset[str], *, is_replayed: bool
    ) -> tuple[Step, OffsetTracker | None]:
        """Complete the step in flight, which has taken effect.

        Returns the step, and the tracker that its replay advances if the replay runs beside live
        messages.

        Args:
            item: the server's ack.
            topics: the topics of the accepted names.
            is_replayed: whether a replay follows the ack.
        """
        step, request = self._step, self._request
        assert step is not None
        self._step = self._request = None
        shared = self._subscriptions.tracker
        if step.tracker is not None:
            behind = None if step.tracker is shared else step.tracker
        else:
            is_beside = is_replayed and self._subscriptions.has_others(step.groups)
            behind = OffsetTracker() if is_beside else None
        (shared if behind is None else behind).follow(item)
        for group in step.groups:
            group.begun, group.behind, group.topics = True, behind, topics
        if request is not None:
            (group,) = step.groups
            group.subscription = group.subscription.only(item.names) or group.subscription
            self._subscriptions.add(group)
            names, rejected, positions, ids = item.names, item.rejected, item.positions, item.ids
            result = Subscribed(names, rejected, positions, ids, item.replayed)
            self._requests.resolve(request, result)
        self._subscriptions.update_split()
        return step, behind

    def unsubscribed(self, fields: Mapping[str, Any]) -> Unsubscribed | None:
        """Complete the unsubscribe in flight; return None if the server rejected every name."""
        ending, request = self._ending, self._request
        assert ending is not None
        assert request is not None
        item = Unsubscribed(
            tuple(str(name) for name in fields["unsubscribed"]),
            read_rejected(fields) + self._rejected,
        )
        self._ending = self._request = None
        # Includes names that the server has ended before, because a new token did not grant them.
        self._subscriptions.end(ending)
        if not item.names:
            why = "the server rejected every name"
            error = SubscriptionRejected(_NOT_SUBSCRIBED, why, item.rejected)
            self._requests.reject(request, error)
            return None
        self._requests.resolve(request, item)
        return item

    def reject(self, error: SubscriptionRejected) -> Unsubscribed | None:
        """Handle the rejection of the command in flight: set `error` on its request, if any.

        Returns the names of a rejected step of the plan as unsubscribed; None for a request.

        Raises:
            SubscriptionRejected: `error`, if the step has every subscription of the client.
        """
        step, request = self._step, self._request
        self._step = self._ending = self._request = None
        if request is not None:
            self._requests.reject(request, error)
            return None
        assert step is not None
        if len(step.groups) == len(self._subscriptions.subscriptions()):
            raise error
        for group in step.groups:
            group.behind = None
        self._subscriptions.update_split()
        return Unsubscribed(step.subscription.all_names, error.rejected, forced=True)
