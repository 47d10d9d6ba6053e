"""Tracks topics, partitions and topic ids over successive metadata responses. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from odin_ws.kafka.errors import error_text
from odin_ws.kafka.protocol import NO_EPOCH, TopicLayout
from odin_ws.records import TopicPartition

__all__ = ["Layout", "LayoutChange"]

_UNKNOWN_TOPIC: Final = 3

# A broker that has just started may not know a topic yet: only lasting absence counts.
_MISSING_SECONDS: Final = 2.0

_DENIED: Final = "not authorized to see the topic (DESCRIBE)"


@attrs.frozen
class LayoutChange:
    """The difference between two metadata responses."""

    appeared: frozenset[TopicPartition]
    """New partitions."""
    recreated: frozenset[TopicPartition]
    """Partitions of recreated topics."""


@attrs.define
class _Topic:
    topic_id: str | None
    epochs: dict[int, int]


class Layout:
    """The known state of a catalogue's topics.

    `problems`: by topic why the whole topic cannot be read, in words. `missing`: topics that do not
    exist. `topic_ids`: by topic, if brokers have ids.
    """

    def __init__(self, topics: Collection[str]) -> None:
        self.topics = frozenset(topics)
        self.problems: dict[str, str] = {}
        self.missing: frozenset[str] = frozenset()
        self.partitions: frozenset[TopicPartition] = frozenset()
        self._known: dict[str, _Topic] = {}
        # The ids of deleted topics.
        self._former_ids: set[str] = set()
        # Without ids: since when a topic's leader epochs are lower than before.
        self._lower_since: dict[str, float] = {}
        self._missing_since: dict[str, float] = {}

    @property
    def topic_ids(self) -> dict[str, str]:
        """Return the ids of topics that have one."""
        return {
            name: topic.topic_id
            for name, topic in self._known.items()
            if topic.topic_id is not None
        }

    @property
    def suspended(self) -> frozenset[str]:
        """Topics that may be another log: a fetch at the old position could read from it.

        The topic is absent, or its leader epochs are lower than before.
        """
        return self.missing | self._lower_since.keys()

    def update(self, topics: Mapping[str, TopicLayout], now: float) -> LayoutChange:
        """Apply a metadata response about all topics."""
        recreated: set[TopicPartition] = set()
        found: set[TopicPartition] = set(self.partitions)
        self.problems = {}
        for name in self.topics:
            topic = topics.get(name)
            if topic is not None and topic.topic_id in self._former_ids:
                # A response of a broker that lags behind: ids are never reused.
                continue
            if topic is None or topic.error == _UNKNOWN_TOPIC:
                self._missing_since.setdefault(name, now)
            elif topic.error:
                self.problems[name] = error_text(topic.error, denied=_DENIED)
                if name not in self.missing:
                    self._missing_since.pop(name, None)
            else:
                is_another = self._is_another(name, topic, now)
                if is_another:
                    self._former_ids.add(self._known[name].topic_id or "")
                    recreated |= {key for key in found if key.topic == name}
                    found -= {
                        key
                        for key in found
                        if key.topic == name and key.partition not in topic.partitions
                    }
                self._take(name, topic, is_another=is_another)
                found |= {TopicPartition(name, number) for number in topic.partitions}
        appeared = found - self.partitions
        self.partitions = frozenset(found)
        self.missing = frozenset(
            name
            for name, since in self._missing_since.items()
            if name not in self._known or now - since >= _MISSING_SECONDS
        )
        return LayoutChange(frozenset(appeared), frozenset(recreated & found))

    def _is_another(self, name: str, topic: TopicLayout, now: float) -> bool:
        """Return whether a topic was recreated.

        A recreated topic has a new id. Without ids, a topic counts as recreated if it was missing,
        or if its leader epochs are lower than before for _MISSING_SECONDS: a broker may lag behind.
        """
        known = self._known.get(name)
        if known is None:
            return False
        if known.topic_id is not None and topic.topic_id is not None:
            return known.topic_id != topic.topic_id
        if name in self.missing:
            return True
        is_lower = any(
            NO_EPOCH < layout.epoch < known.epochs.get(number, NO_EPOCH)
            for number, layout in topic.partitions.items()
        )
        if not is_lower:
            self._lower_since.pop(name, None)
            return False
        lasted = now - self._lower_since.setdefault(name, now) >= _MISSING_SECONDS
        if lasted:
            del self._lower_since[name]
        return lasted

    def _take(self, name: str, topic: TopicLayout, *, is_another: bool) -> None:
        known = self._known.get(name)
        topic_id = topic.topic_id
        if topic_id is None and known is not None and not is_another:
            # During an upgrade of the cluster some brokers know no ids.
            topic_id = known.topic_id
        self._missing_since.pop(name, None)
        epochs = {number: layout.epoch for number, layout in topic.partitions.items()}
        if name in self._lower_since:
            epochs = self._known[name].epochs | {
                number: max(epoch, self._known[name].epochs.get(number, epoch))
                for number, epoch in epochs.items()
            }
        self._known[name] = _Topic(topic_id, epochs)
