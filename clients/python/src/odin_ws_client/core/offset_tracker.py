"""The client's positions: the offset of the last message per partition, and topic ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from odin_ws_client.core.items import Checkpoint, Ids, Item, Message, Positions, Resumed, Subscribed

__all__ = ["GivenPositions", "OffsetTracker"]

# JSON has no numbers as keys, so partitions from a file are text.
GivenPositions = Positions | Mapping[str, Mapping[str, int]]


_LAST = (1 << 63) - 1


class OffsetTracker:
    """The offset of the last record per topic and partition; -1 is before the first record.

    Args:
        positions: the first positions.
        ids: the ids of their topics. If the id of a topic changes, its offsets are dropped.
    """

    __slots__ = ("_ahead", "_held", "_ids", "_offsets")

    def __init__(self, positions: GivenPositions | None = None, ids: Ids | None = None) -> None:
        self._offsets: dict[str, dict[int, int]] = {}
        self._ids = dict(ids or {})
        # True if only a Checkpoint changes the positions.
        self._held = False
        # By topic and partition, the offsets received ahead of a record that the server holds back.
        # The position is before these offsets, so a resume replays them.
        self._ahead: dict[tuple[str, int], set[int]] = {}
        for topic, partitions in (positions or {}).items():
            offsets = {int(partition): offset for partition, offset in partitions.items()}
            self._offsets[topic] = offsets

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def advance(self, message: Message) -> bool:
        """Advance the position to `message`; return False if the message came before."""
        partitions = self._offsets.setdefault(message.topic, {})
        if message.offset <= partitions.get(message.partition, -1):
            return False
        if message.ahead or self._ahead:
            is_new = self._advance_ahead(message)
            if message.ahead:
                return is_new
        else:
            is_new = True
        partitions[message.partition] = message.offset
        return is_new

    def _advance_ahead(self, message: Message) -> bool:
        """Update the offsets received ahead by `message`; return whether the message is new."""
        key = message.topic, message.partition
        early = self._ahead.setdefault(key, set())
        is_new = message.offset not in early
        if message.ahead:
            early.add(message.offset)
        else:
            self._forget_ahead(key, message.offset)
        return is_new

    def _forget_ahead(self, key: tuple[str, int], position: int) -> None:
        left = {offset for offset in self._ahead.pop(key, ()) if offset > position}
        if left:
            self._ahead[key] = left

    def follow(self, item: Item | Checkpoint) -> None:
        """Update the positions for an item that the consumer has taken."""
        if type(item) is Message:
            if not self._held:
                self.advance(item)
        elif type(item) is Checkpoint:
            self._held = item.holds
            if item.topics is not None:
                self.retain(item.topics)
            self._move(item.positions, item.ids)
        elif isinstance(item, Subscribed | Resumed) and not self._held:
            self._move(item.positions, item.ids)

    def _move(self, positions: Positions, ids: Ids) -> None:
        for topic in self.recreated(ids):
            self._offsets[topic] = {}
            self._ahead = {key: offset for key, offset in self._ahead.items() if key[0] != topic}
        self._ids.update(ids)
        for topic, partitions in positions.items():
            own = self._offsets.setdefault(topic, {})
            for partition, offset in partitions.items() if self._ahead else ():
                went_back = offset < own.get(partition, -1)
                # After a step back, other records have the offsets received ahead.
                self._forget_ahead((topic, partition), _LAST if went_back else offset)
            own.update(partitions)

    def retreat(self, positions: Positions, ids: Ids) -> Positions:
        """Move positions back only, except in a topic with a new id; return the new positions."""
        again = self.recreated(ids)
        back = {
            topic: {
                partition: offset
                if topic in again
                else min(offset, self.offset(topic, partition, offset))
                for partition, offset in partitions.items()
            }
            for topic, partitions in positions.items()
        }
        self._move(back, ids)
        return back

    def note(self, message: Message) -> None:
        """Remember the offset of `message`, to detect a duplicate, without moving the position."""
        if message.offset > self.offset(message.topic, message.partition):
            self._ahead.setdefault((message.topic, message.partition), set()).add(message.offset)

    def join(self, other: OffsetTracker) -> None:
        """Merge `other`, whose replay has ended: take the higher offset per partition."""
        for topic, partitions in other._offsets.items():
            own = self._offsets.setdefault(topic, {})
            for partition, offset in partitions.items():
                own[partition] = max(offset, own.get(partition, -1))
                self._forget_ahead((topic, partition), own[partition])
        self._ids = other._ids | self._ids

    def retain(self, topics: Collection[str]) -> None:
        """Drop the positions and ids of all topics that are not in `topics`."""
        for topic in self._offsets.keys() - topics:
            del self._offsets[topic]
        for topic in self._ids.keys() - topics:
            del self._ids[topic]
        self._ahead = {key: offset for key, offset in self._ahead.items() if key[0] in topics}

    def copy(self) -> OffsetTracker:
        """Return a tracker with the same positions and ids."""
        copied = OffsetTracker(self._offsets, self._ids)
        copied._ahead = {key: set(offsets) for key, offsets in self._ahead.items()}
        return copied

    def recreated(self, ids: Ids) -> list[str]:
        """Return the topics of `ids` that have another id here."""
        return [topic for topic, own in ids.items() if self._ids.get(topic, own) != own]

    def ids(self) -> dict[str, str]:
        """Return a copy of the ids."""
        return dict(self._ids)

    def offset(self, topic: str, partition: int, default: int = -1) -> int:
        """Return the position in a partition; `default` without a position."""
        return self._offsets.get(topic, {}).get(partition, default)

    def has(self, topic: str, partition: int) -> bool:
        """Return whether the partition has a position."""
        return partition in self._offsets.get(topic, ())

    def positions(self) -> dict[str, dict[int, int]]:
        """Return a copy of the positions."""
        return {topic: dict(partitions) for topic, partitions in self._offsets.items()}
