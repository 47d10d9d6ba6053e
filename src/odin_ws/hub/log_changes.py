"""Topic ids, recreated topics and truncated partitions: the offset gaps of each partition."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import attrs

from odin_ws.log_reader import Span
from odin_ws.records import GapReason, TopicPartition

__all__ = ["LiveFrom", "LogChanges", "OffsetGap", "OffsetGaps"]

# The newest resets back per partition are remembered: each needs an unclean leader election or a
# recreated topic.
_MAX_RESETS = 16

# Limit of remembered former ids per topic.
_MAX_FORMER_IDS = 16

# Stands for "no position" in a LiveFrom.
_NONE = -2


@attrs.frozen
class OffsetGaps:
    """Partitions that do not continue after their last record."""

    spans: Mapping[GapReason, Mapping[TopicPartition, Span]]
    """By reason the offsets to report. EXPIRED: records that the log deleted before they were read.
    RECREATED: offsets of the new topic before the first delivered record, `[0, -1]` for none.
    TRUNCATED: delivered records that are gone from the log."""
    positions: Mapping[TopicPartition, int] = attrs.field(factory=dict)
    """The positions after which recreated and truncated partitions continue."""
    ids: Mapping[str, str] = attrs.field(factory=dict)
    """The ids of these partitions' topics."""


class LiveFrom:
    """The positions after which all records of a subscription were sent.

    Immutable and compact, since many subscribers share one object.

    Args:
        version: the version of the LogChanges that created the object.
        layout: by partition the index of its offset; only grows.
        offsets: the offsets, one per entry of `layout` at that time.
    """

    __slots__ = ("_layout", "_offsets", "version")

    def __init__(
        self, version: int, layout: Mapping[TopicPartition, int], offsets: Iterable[int]
    ) -> None:
        self.version = version
        self._layout = layout
        self._offsets = array("q", offsets)

    def offset(self, key: TopicPartition) -> int | None:
        """Return the position in a partition; None if it was not read then."""
        index = self._layout.get(key, len(self._offsets))
        if index >= len(self._offsets) or self._offsets[index] == _NONE:
            return None
        return self._offsets[index]

    def replaced(self, positions: Mapping[TopicPartition, int]) -> LiveFrom:
        """Return a copy with other positions for some partitions."""
        offsets, count = self._offsets[:], len(self._offsets)
        for key, offset in positions.items():
            index = self._layout.get(key, count)
            if index < count:
                offsets[index] = offset
        return LiveFrom(self.version, self._layout, offsets)


@attrs.frozen
class OffsetGap:
    """A partition continues after `position`, because it was recreated or truncated."""

    reason: GapReason
    position: int
    gone: Span
    """The truncated offsets, or the new topic's offsets before its first delivered record."""


class LogChanges:
    """The changes of the log's partitions: topic ids, recreations, truncations."""

    def __init__(self) -> None:
        self.version = 0
        """Increases with each change."""
        self.ids: dict[str, str] = {}
        """By topic its current id, also of missing topics."""
        self._former_ids: dict[str, list[str]] = {}
        # By partition with resets back: their number, and the newest of them.
        self._generations: dict[TopicPartition, int] = {}
        self._gaps: dict[TopicPartition, list[OffsetGap]] = {}
        # By partition the version at which it began, and the position before its first record; then
        # the version of its last truncation, and the position before that.
        self._begun: dict[TopicPartition, tuple[int, int]] = {}
        self._truncated: dict[TopicPartition, tuple[int, int]] = {}
        self._layout: dict[TopicPartition, int] = {}
        self._now: LiveFrom | None = None
        self._now_order = -1

    def note_ids(self, ids: Mapping[str, str]) -> frozenset[str]:
        """Update topic ids; returns the topics whose id has changed."""
        changed = frozenset(topic for topic, own in ids.items() if self.ids.get(topic, own) != own)
        for topic in changed:
            former = self._former_ids.setdefault(topic, [])
            former.append(self.ids[topic])
            del former[:-_MAX_FORMER_IDS]
        self.ids.update(ids)
        return changed

    def had_before(self, topic: str, topic_id: str) -> bool:
        """Return whether a topic is known to have had this id before."""
        return topic_id in self._former_ids.get(topic, ())

    def begin(self, key: TopicPartition, position: int) -> None:
        """Note that a partition, new or recreated, is read after `position`."""
        self.version += 1
        self._begun[key] = self.version, position
        self._truncated.pop(key, None)
        self._layout.setdefault(key, len(self._layout))
        self._now = None

    def begun(self, key: TopicPartition) -> int:
        """Return the position before a partition's first record here."""
        return self._begun[key][1]

    def recreate(self, key: TopicPartition, position: int) -> None:
        """Note that a partition belongs to a recreated topic, which is read after `position`."""
        self.begin(key, position)
        self._gaps[key] = []
        self._note(key, OffsetGap(GapReason.RECREATED, position, Span(0, position)))

    def truncate(self, key: TopicPartition, gone: Span) -> None:
        """Note that a partition lost the records of `gone`; other records get their offsets."""
        self.version += 1
        self._truncated[key] = self.version, gone.first - 1
        self._now = None
        self._note(key, OffsetGap(GapReason.TRUNCATED, gone.first - 1, gone))

    def _note(self, key: TopicPartition, gap: OffsetGap) -> None:
        self._generations[key] = self.generation(key) + 1
        gaps = self._gaps.setdefault(key, [])
        gaps.append(gap)
        del gaps[:-_MAX_RESETS]

    def generation(self, key: TopicPartition) -> int:
        """Return how often a partition was reset back."""
        return self._generations.get(key, 0)

    def generations(self) -> dict[TopicPartition, int]:
        """Return by partition how often it was reset back, for all partitions with resets."""
        return dict(self._generations)

    def gap_since(self, key: TopicPartition, generation: int) -> OffsetGap | None:
        """Return all resets since `generation` as one; None if there was none."""
        count = self.generation(key) - generation
        if not count:
            return None
        gaps = self._gaps[key]
        since = gaps[-count:]
        position = min(gap.position for gap in since)
        if count > len(gaps) or since[0].reason is GapReason.RECREATED:
            return OffsetGap(GapReason.RECREATED, position, Span(0, position))
        gone = Span(position + 1, max(gap.gone.last for gap in since))
        return OffsetGap(GapReason.TRUNCATED, position, gone)

    def cuts(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Span]:
        """Return what `cut` returns for each of these positions, without those for which None."""
        found = ((key, self.cut(key, positions[key])) for key in self._gaps.keys() & positions)
        return {key: span for key, span in found if span is not None}

    def cut(self, key: TopicPartition, position: int) -> Span | None:
        """Return the truncated offsets up to a position within them, else None.

        A client at that position may have the deleted records, or the ones that replaced them.
        """
        firsts = [
            gap.gone.first
            for gap in self._gaps.get(key, ())
            if gap.reason is GapReason.TRUNCATED and gap.gone.first <= position <= gap.gone.last
        ]
        return Span(min(firsts), position) if firsts else None

    def live_from(self, order: int, positions: Mapping[str, Mapping[int, int]]) -> LiveFrom:
        """Return the present positions; one object for all subscribers of the same hub order."""
        if self._now is None or self._now_order != order:
            offsets = (
                positions.get(topic, {}).get(partition, _NONE) for topic, partition in self._layout
            )
            self._now, self._now_order = LiveFrom(self.version, self._layout, offsets), order
        return self._now

    def sent_after(self, live_from: LiveFrom, key: TopicPartition) -> int:
        """Return the position from which on a subscription was sent everything of a partition."""
        begun, position = self._begun.get(key, (0, -1))
        known = live_from.offset(key)
        if known is not None and live_from.version >= begun:
            position = known
        truncated, end = self._truncated.get(key, (0, position))
        return min(position, end) if live_from.version < truncated else position
