"""The subscriptions of a client, the positions from which each resumes, and what to send for it."""

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
    """One subscription of a client.

    `begun`: it has taken effect, so it is resumed after a break, else subscribed again.
    `behind`: its own positions while its replay runs beside live messages of others.
    `topics`: of its names, as far as the server has said.
    """

    subscription: Subscription
    begun: bool
    snapshot_due: bool
    behind: OffsetTracker | None = None
    topics: frozenset[str] | None = None


@attrs.frozen(eq=False)
class Step:
    """One command that begins or resumes groups, which have all options in common.

    `tracker`: the positions to resume from; None for a subscription that begins.
    """

    groups: Sequence[Group]
    subscription: Subscription
    tracker: OffsetTracker | None
    with_snapshot: bool

    def text(self, number: int) -> str:
        """The command."""
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
            if known := {topic: one for topic, one in ids.items() if topic in positions}:
                data["ids"] = known
            if self.with_snapshot:
                data["snapshot"] = True
        return orjson.dumps({"type": kind, "id": number, "data": data}).decode()


class SubscriptionSet:
    """What a client follows, over all its connections.

    All groups share `tracker`, except those behind it: whose replay runs beside live messages of
    the same partitions. Each of these has positions of its own until its replay has ended.

    Args:
        subscriptions: what it begins with.
        tracker: where that is; if it has positions, the subscriptions are resumed from there.
    """

    def __init__(self, subscriptions: Iterable[Subscription], tracker: OffsetTracker) -> None:
        self.tracker = tracker
        begun = bool(tracker)
        self._groups = [
            Group(one, begun, snapshot_due=one.snapshot and not begun) for one in subscriptions
        ]
        # Whether some group is behind.
        self.is_split = False

    def subscriptions(self) -> tuple[Subscription, ...]:
        """The current subscriptions."""
        return tuple(group.subscription for group in self._groups)

    # A new connection.

    def plan(self) -> deque[Step]:
        """The commands with which a connection begins: what has begun is resumed first.

        The server replays one after the other, and live messages come meanwhile. So only the first
        command leaves its groups at the common positions; the others have copies.
        """
        alike: dict[object, list[Group]] = {}
        for group in self._groups:
            alike.setdefault(_options(group), []).append(group)
        several = sorted(alike.values(), key=lambda groups: not groups[0].begun)
        steps: deque[Step] = deque()
        is_shared = False
        for groups in several:
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
        self.see_split()
        return steps

    def _merged(self, groups: Sequence[Group]) -> Subscription:
        several = [group.subscription for group in groups]
        # It is the whole connection's, so the last one that said something counts.
        said = [one.delivery for one in self.subscriptions() if one.delivery is not None]
        tokens = next((one.tokens for one in several if one.topics or one.bundles), ())
        return attrs.evolve(
            several[0],
            channels=_distinct(name for one in several for name in one.channels),
            topics=_distinct(name for one in several for name in one.topics),
            bundles=_distinct(name for one in several for name in one.bundles),
            tokens=tokens,
            delivery=said[-1] if said else None,
        )

    # What the server says.

    def has_others(self, groups: Sequence[Group]) -> bool:
        """Whether others than these have taken effect."""
        return any(group.begun and group not in groups for group in self._groups)

    def add(self, group: Group) -> None:
        """A subscription of the application has taken effect; it replaces equal names' options."""
        self.end(group.subscription)
        self._groups.append(group)
        self.see_split()

    def end(self, subscription: Subscription) -> None:
        """Names are not followed any more."""
        for group in list(self._groups):
            left = group.subscription.without(subscription)
            if left is None:
                self._groups.remove(group)
            else:
                group.subscription = left
        self.see_split()

    def unknown(self, subscription: Subscription) -> tuple[str, ...]:
        """The names that are not followed under the same name."""
        left: Subscription | None = subscription
        for group in self._groups:
            left = left and left.without(group.subscription)
        return () if left is None else left.all_names

    def caught_up(self, behind: OffsetTracker) -> None:
        """A replay has ended: its groups are where the others are."""
        self.tracker.join(behind)
        for group in self._groups:
            if group.behind is behind:
                group.behind = None
        self.see_split()

    def advance(self, message: Message, replaying: OffsetTracker | None) -> bool:
        """Move on to a message, also of a replay beside others; whether it is new."""
        if message.replay and replaying is not None:
            return replaying.advance(message)
        for behind in self._behind():
            behind.note(message)
        return self.tracker.advance(message)

    def retreat(self, positions: Positions, ids: Ids) -> Positions:
        """Records have other offsets now: move back, wherever a group is; returns where to."""
        for behind in self._behind():
            behind.retreat(positions, ids)
        return self.tracker.retreat(positions, ids)

    def forget_other_topics(self) -> frozenset[str] | None:
        """Forget the positions of topics that are not followed; returns the others' if known."""
        several = [group.topics for group in self._groups if group.begun]
        known = [topics for topics in several if topics is not None]
        if len(known) < len(several):
            return None
        topics = frozenset[str]().union(*known)
        self.tracker.retain(topics)
        return topics

    # What the application may keep.

    def checkpoint(self, topics: frozenset[str] | None = None) -> Checkpoint:
        """The positions up to which everything of every group has come."""
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
        """The same in the message's partition only."""
        topic, partition = message.topic, message.partition
        several = (self.tracker, *self._behind())
        offsets = [one.offset(topic, partition) for one in several if one.has(topic, partition)]
        positions = {topic: {partition: min(offsets)}} if offsets else {}
        return Checkpoint(positions, {}, self.is_split)

    def _behind(self) -> list[OffsetTracker]:
        several = {id(one): one for group in self._groups if (one := group.behind) is not None}
        return list(several.values())

    def see_split(self) -> None:
        """Groups have moved behind the others, or to them."""
        self.is_split = any(group.behind is not None for group in self._groups)


def _options(group: Group) -> object:
    """Equal for groups that one command can begin or resume."""
    one = group.subscription
    tokens = sorted(one.tokens) if one.topics or one.bundles else []
    beginning = None if group.begun else one.beginning()
    options = [one.max_rate, one.where, tokens, beginning]
    written = orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
    return group.begun, group.snapshot_due, id(group.behind), written


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
