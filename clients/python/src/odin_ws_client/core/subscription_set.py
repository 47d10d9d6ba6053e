"""The subscriptions of a client, and the positions and commands to begin or resume them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import attrs
import orjson

from odin_ws_client.core.items import Checkpoint, Ids, Message, Positions
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.subscription import Subscription

__all__ = ["Group", "Step", "SubscriptionSet"]


@attrs.define(eq=False)
class Group:
    """The state of one subscription of a client."""

    subscription: Subscription
    """The names and options."""
    begun: bool
    """True if the subscription has taken effect: a new connection resumes it."""
    snapshot_due: bool
    """True if the snapshot is still to come."""
    behind: OffsetTracker | None = None
    """The group's own positions, while its replay runs beside live messages of other groups."""
    topics: frozenset[str] | None = None
    """The topics of the names; None before the server's ack."""


@attrs.frozen(eq=False)
class Step:
    """A command that begins or resumes groups with equal options."""

    groups: Sequence[Group]
    """The groups."""
    subscription: Subscription
    """The names of all groups, with their options."""
    tracker: OffsetTracker | None
    """The positions to resume from; None for a subscribe."""
    with_snapshot: bool
    """True if the command requests a snapshot."""

    def text(self, number: int) -> str:
        """Return the command with the id `number` as JSON text."""
        data = self.subscription.names() | {"frames": "batch"}
        if self.tracker is None:
            kind = "subscribe"
            data |= self.subscription.beginning()
            data["positions"] = True
        else:
            kind = "resume"
            positions, ids = self.tracker.positions(), self.tracker.ids()
            data["positions"] = {
                topic: {str(partition): offset for partition, offset in partitions.items()}
                for topic, partitions in positions.items()
            }
            if known := {topic: topic_id for topic, topic_id in ids.items() if topic in positions}:
                data["ids"] = known
            if self.with_snapshot:
                data["snapshot"] = True
        return orjson.dumps({"type": kind, "id": number, "data": data}).decode()


class SubscriptionSet:
    """The subscriptions of a client, across all its connections.

    All groups share `tracker`, except groups whose replay runs beside live messages of the same
    partitions: such a group has positions of its own until its replay has ended.

    Args:
        subscriptions: the first subscription, or the first subscriptions.
        tracker: the positions; if there are any, the first subscriptions are resumed from them.
    """

    def __init__(
        self, subscriptions: Subscription | Iterable[Subscription], tracker: OffsetTracker
    ) -> None:
        self.tracker = tracker
        begun = bool(tracker)
        if isinstance(subscriptions, Subscription):
            subscriptions = [subscriptions]
        self._groups = [
            Group(subscription, begun, snapshot_due=subscription.snapshot and not begun)
            for subscription in subscriptions
        ]
        self.is_split = False
        """True if a group has positions of its own."""

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the current subscriptions."""
        return tuple(group.subscription for group in self._groups)

    # A new connection.

    def plan(self) -> deque[Step]:
        """Return the commands of a new connection: resumes first, then subscribes.

        The server runs the replays one by one, while live messages of the first are sent already.
        So only the groups of the first resume keep the shared positions; the others get copies.
        """
        alike: dict[object, list[Group]] = {}
        for group in self._groups:
            alike.setdefault(_options(group), []).append(group)
        command_groups = sorted(alike.values(), key=lambda groups: not groups[0].begun)
        steps: deque[Step] = deque()
        is_shared = False
        for groups in command_groups:
            first = groups[0]
            tracker = first.behind
            if tracker is None and first.begun:
                tracker = self.tracker
            if tracker is self.tracker and is_shared:
                tracker = self.tracker.copy()
                for group in groups:
                    group.behind = tracker
            is_shared |= tracker is self.tracker
            steps.append(Step(groups, self._merged(groups), tracker, first.snapshot_due))
        self.update_split()
        return steps

    def _merged(self, groups: Sequence[Group]) -> Subscription:
        merged = [group.subscription for group in groups]
        # `delivery` applies to the whole connection: the last subscription with a value decides.
        delivery = [
            subscription.delivery
            for subscription in self.subscriptions()
            if subscription.delivery is not None
        ]
        tokens = next((part.tokens for part in merged if part.topics or part.bundles), ())
        return attrs.evolve(
            merged[0],
            channels=_distinct(name for part in merged for name in part.channels),
            topics=_distinct(name for part in merged for name in part.topics),
            bundles=_distinct(name for part in merged for name in part.bundles),
            tokens=tokens,
            delivery=delivery[-1] if delivery else None,
        )

    # Answers and messages of the server.

    def has_others(self, groups: Sequence[Group]) -> bool:
        """Return whether groups other than `groups` have taken effect."""
        return any(group.begun and group not in groups for group in self._groups)

    def add(self, group: Group) -> None:
        """Add a group that has taken effect; its options replace those of equal names."""
        self.end(group.subscription)
        self._groups.append(group)
        self.update_split()

    def end(self, subscription: Subscription) -> None:
        """Remove the names of `subscription` from all groups."""
        for group in list(self._groups):
            left = group.subscription.without(subscription)
            if left is None:
                self._groups.remove(group)
            else:
                group.subscription = left
        self.update_split()

    def unknown(self, subscription: Subscription) -> tuple[str, ...]:
        """Return the names of `subscription` that no group has."""
        left: Subscription | None = subscription
        for group in self._groups:
            left = left and left.without(group.subscription)
        return () if left is None else left.all_names

    def caught_up(self, behind: OffsetTracker) -> None:
        """Merge the positions `behind` of a replay that has ended into the shared positions."""
        self.tracker.join(behind)
        for group in self._groups:
            if group.behind is behind:
                group.behind = None
        self.update_split()

    def advance(self, message: Message, replaying: OffsetTracker | None) -> bool:
        """Advance the positions to `message`; return False if the message came before.

        Args:
            message: the message.
            replaying: the tracker that the current replay advances, if it has one of its own.
        """
        if message.replay and replaying is not None:
            return replaying.advance(message)
        for behind in self._behind():
            behind.note(message)
        return self.tracker.advance(message)

    def retreat(self, positions: Positions, ids: Ids) -> Positions:
        """Move all positions back after a loss in Kafka; return the new shared positions."""
        for behind in self._behind():
            behind.retreat(positions, ids)
        return self.tracker.retreat(positions, ids)

    def forget_other_topics(self) -> frozenset[str] | None:
        """Drop the positions of topics without a subscription; return the subscribed topics.

        Returns None, and drops nothing, if the topics of a group are not known.
        """
        group_topics = [group.topics for group in self._groups if group.begun]
        known = [topics for topics in group_topics if topics is not None]
        if len(known) < len(group_topics):
            return None
        topics = frozenset[str]().union(*known)
        self.tracker.retain(topics)
        return topics

    # Checkpoints for the application.

    def checkpoint(self, topics: frozenset[str] | None = None) -> Checkpoint:
        """Return the lowest positions over all groups: all records up to them have come."""
        positions = self.tracker.positions()
        ids = self.tracker.ids()
        for behind in self._behind():
            for topic, partitions in behind.positions().items():
                own = positions.setdefault(topic, {})
                for partition, offset in partitions.items():
                    own[partition] = min(offset, own.get(partition, offset))
            ids = behind.ids() | ids
        return Checkpoint(positions, ids, self.is_split, topics)

    def checkpoint_at(self, message: Message) -> Checkpoint:
        """Return the same for the partition of `message` only."""
        topic, partition = message.topic, message.partition
        trackers = (self.tracker, *self._behind())
        offsets = [
            tracker.offset(topic, partition)
            for tracker in trackers
            if tracker.has(topic, partition)
        ]
        positions = {topic: {partition: min(offsets)}} if offsets else {}
        return Checkpoint(positions, {}, self.is_split)

    def _behind(self) -> list[OffsetTracker]:
        trackers = {
            id(group.behind): group.behind for group in self._groups if group.behind is not None
        }
        return list(trackers.values())

    def update_split(self) -> None:
        """Update `is_split` after a change of the groups."""
        self.is_split = any(group.behind is not None for group in self._groups)


def _options(group: Group) -> object:
    """Return a key that is equal for groups that one command can begin or resume."""
    subscription = group.subscription
    tokens = sorted(subscription.tokens) if subscription.topics or subscription.bundles else []
    beginning = None if group.begun else subscription.beginning()
    options = [subscription.max_rate, subscription.where, tokens, beginning]
    written = orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
    return group.begun, group.snapshot_due, id(group.behind), written


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
