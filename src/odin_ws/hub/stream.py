"""The stream: the positions up to which records were taken, their order, gaps and topics."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from trio_util import AsyncValue

from odin_ws.catalogue import Catalogue
from odin_ws.hub.log_changes import LiveFrom, LogChanges
from odin_ws.records import TopicPartition

__all__ = ["Stream"]


class Stream:
    """The state of the live stream, for sessions and replays; only Ingest changes it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.changes = LogChanges()
        """Topic ids, and partitions that were recreated or truncated."""
        self.is_partial = False
        """True if other instances read the remaining partitions."""
        self.order = 0
        """The number of messages taken so far; each message has its own number as its order."""
        self.contiguous_since = 0
        """The order since which all messages were new and none was taken back."""
        self.history_loaded = trio.Event()
        """Set after the history of the first assignment: from then on the history is complete."""
        self.revoked_topics: AsyncValue[frozenset[str]] = AsyncValue(frozenset())
        """Topics with partitions that a rebalance took away, until all their clients are closed."""
        self.positions: dict[str, dict[int, int]] = {}
        """By topic and partition the offset of the last record taken; -1 before the first."""
        self.partitions: frozenset[TopicPartition] = frozenset()
        """The keys of `positions`; another object after each assignment."""
        self._moved = trio.Event()

    def position(self, key: TopicPartition) -> int | None:
        """Return the last offset taken of a partition; None if it is not read here."""
        return self.positions.get(key.topic, {}).get(key.partition)

    async def wait_moved(self) -> None:
        """Wait until the next record, assignment or end of the history was taken."""
        await self._moved.wait()

    def move(self) -> None:
        """Wake the tasks in `wait_moved`."""
        self._moved.set()
        self._moved = trio.Event()

    def now(self) -> LiveFrom:
        """Return the present positions; one object for all subscribers of the same order."""
        return self.changes.live_from(self.order, self.positions)

    # ---- look-ups by topic, for answers

    @property
    def topics(self) -> list[str]:
        """Every topic of the catalogue."""
        return list(self.catalogue.topics)

    def positions_of(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """Return copies of the positions of these topics."""
        return {topic: dict(self.positions.get(topic, {})) for topic in topics}

    def partitions_of(self, topics: Iterable[str]) -> dict[str, list[int]]:
        """Return by topic the partitions that this instance reads."""
        return {topic: sorted(self.positions.get(topic, ())) for topic in topics}

    def ids_of(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of these topics, as far as the brokers have ids."""
        known = self.changes.ids
        return {topic: known[topic] for topic in topics if topic in known}

    def categories_of(self, topics: Iterable[str]) -> dict[str, str]:
        """Return by category its topic, for these topics."""
        return {self.catalogue.topics[topic].category: topic for topic in topics}
