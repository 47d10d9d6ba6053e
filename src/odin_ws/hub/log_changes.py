"""Topic ids, recreated topics and truncated partitions: the offset gaps of each partition."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import attrs

from odin_ws.log_reader import Span
from odin_ws.records import GapReason, TopicPartition

__all__ = ["LiveFrom", "LogChanges", "OffsetGap", "OffsetGaps"]

# Per partition the newest jumps back are remembered: each takes an unclean leader election or a
# topic that was recreated.
_MAX_JUMPS = 16

# Ids that a topic had before, of which the newest are remembered.
_MAX_FORMER_IDS = 16

# Stands for "no position" in a LiveFrom.
_NONE = -2


@attrs.frozen
class OffsetGaps:
    """Partitions that do not go on behind their last record.

    `spans`: by reason, the offsets to report. EXPIRED: records that the log deleted before they
    were read. RECREATED: what the new topic has before the first record to be delivered, `[0, -1]`
    where that is nothing. TRUNCATED: records that were delivered and are gone from the log.
    `positions`: where recreated and truncated partitions go on. `ids`: of their topics.
    """

    spans: Mapping[GapReason, Mapping[TopicPartition, Span]]
    positions: Mapping[TopicPartition, int] = attrs.field(factory=dict)
    ids: Mapping[str, str] = attrs.field(factory=dict)


class LiveFrom:
    """The positions behind which a subscription has been sent everything.

    Immutable and compact, since many subscribers share one: `offsets` has an item per entry of
    `layout`, which only grows. `version`: of the LogChanges that made it.
    """

    __slots__ = ("_layout", "_offsets", "version")

    def __init__(
        self, version: int, layout: Mapping[TopicPartition, int], offsets: Iterable[int]
    ) -> None:
        self.version = version
        self._layout = layout
        self._offsets = array("q", offsets)

    def offset(self, key: TopicPartition) -> int | None:
        """The position in a partition; None if the partition was not read then."""
        place = self._layout.get(key, len(self._offsets))
        if place >= len(self._offsets) or self._offsets[place] == _NONE:
            return None
        return self._offsets[place]

    def replaced(self, positions: Mapping[TopicPartition, int]) -> LiveFrom:
        """The same with other positions for some partitions."""
        pairs = zip(self._layout, self._offsets, strict=False)
        offsets = [positions.get(key, offset) for key, offset in pairs]
        return LiveFrom(self.version, self._layout, offsets)


@attrs.frozen
class OffsetGap:
    """A partition goes on behind `position`, since it is a new topic's or was truncated.

    `gone`: the truncated offsets; what a new topic has before its first record to be delivered.
    """

    reason: GapReason
    position: int
    gone: Span


class LogChanges:
    """What happened to the log's partitions: ids of topics, beginnings, truncations.

    `version` is another one after each change. `ids`: the current id per topic, also of topics that
    are missing at the moment.
    """

    def __init__(self) -> None:
        self.version = 0
        self.ids: dict[str, str] = {}
        self._former_ids: dict[str, list[str]] = {}
        # Of each partition that ever jumped back, how often, and the newest of these jumps.
        self._generations: dict[TopicPartition, int] = {}
        self._gaps: dict[TopicPartition, list[OffsetGap]] = {}
        # The version at which a partition began, and the position that it began behind; and the
        # same for its last truncation.
        self._begun: dict[TopicPartition, tuple[int, int]] = {}
        self._truncated: dict[TopicPartition, tuple[int, int]] = {}
        self._layout: dict[TopicPartition, int] = {}
        self._now: LiveFrom | None = None
        self._now_order = -1

    def note_ids(self, ids: Mapping[str, str]) -> frozenset[str]:
        """Take the topics' ids; returns the topics that had another id before."""
        changed = frozenset(topic for topic, own in ids.items() if self.ids.get(topic, own) != own)
        for topic in changed:
            former = self._former_ids.setdefault(topic, [])
            former.append(self.ids[topic])
            del former[:-_MAX_FORMER_IDS]
        self.ids.update(ids)
        return changed

    def had_before(self, topic: str, topic_id: str) -> bool:
        """Whether a topic is known to have had this id before its current one."""
        return topic_id in self._former_ids.get(topic, ())

    def begin(self, key: TopicPartition, position: int) -> None:
        """A partition is read from behind `position` on: it is new here, or it was recreated."""
        self.version += 1
        self._begun[key] = self.version, position
        self._truncated.pop(key, None)
        self._layout.setdefault(key, len(self._layout))
        self._now = None

    def begun(self, key: TopicPartition) -> int:
        """The position behind which a partition is read since it is read."""
        return self._begun[key][1]

    def recreate(self, key: TopicPartition, position: int) -> None:
        """A partition belongs to a new topic, which is read from behind `position` on."""
        self.begin(key, position)
        self._gaps[key] = []
        self._note(key, OffsetGap(GapReason.RECREATED, position, Span(0, position)))

    def truncate(self, key: TopicPartition, gone: Span) -> None:
        """A partition has lost the records of `gone`; others get their offsets."""
        self.version += 1
        self._truncated[key] = self.version, gone.first - 1
        self._now = None
        self._note(key, OffsetGap(GapReason.TRUNCATED, gone.first - 1, gone))

    def _note(self, key: TopicPartition, gap: OffsetGap) -> None:
        self._generations[key] = self.generation(key) + 1
        gaps = self._gaps.setdefault(key, [])
        gaps.append(gap)
        del gaps[:-_MAX_JUMPS]

    def generation(self, key: TopicPartition) -> int:
        """How often a partition has jumped back."""
        return self._generations.get(key, 0)

    def generations(self) -> dict[TopicPartition, int]:
        """The same of all partitions that have."""
        return dict(self._generations)

    def gap_since(self, key: TopicPartition, generation: int) -> OffsetGap | None:
        """All jumps since `generation` as one; None if there was none."""
        count = self.generation(key) - generation
        if not count:
            return None
        gaps = self._gaps[key]
        since = gaps[-count:]
        position = min(one.position for one in since)
        if count > len(gaps) or since[0].reason is GapReason.RECREATED:
            return OffsetGap(GapReason.RECREATED, position, Span(0, position))
        gone = Span(position + 1, max(one.gone.last for one in since))
        return OffsetGap(GapReason.TRUNCATED, position, gone)

    def cut(self, key: TopicPartition, position: int) -> Span | None:
        """The truncated offsets up to a position that lies among them, else None.

        A client at that position may have the records that are gone, or those that took their
        offsets.
        """
        firsts = [
            one.gone.first
            for one in self._gaps.get(key, ())
            if one.reason is GapReason.TRUNCATED and one.gone.first <= position <= one.gone.last
        ]
        return Span(min(firsts), position) if firsts else None

    def live_from(self, order: int, positions: Mapping[str, Mapping[int, int]]) -> LiveFrom:
        """The positions now; one object for all subscribers of the same hub order."""
        if self._now is None or self._now_order != order:
            offsets = (
                positions.get(topic, {}).get(partition, _NONE) for topic, partition in self._layout
            )
            self._now, self._now_order = LiveFrom(self.version, self._layout, offsets), order
        return self._now

    def sent_after(self, live_from: LiveFrom, key: TopicPartition) -> int:
        """The position behind which a subscription was sent everything of a partition."""
        begun, position = self._begun.get(key, (0, -1))
        known = live_from.offset(key)
        if known is not None and live_from.version >= begun:
            position = known
        truncated, end = self._truncated.get(key, (0, position))
        return min(position, end) if live_from.version < truncated else position
