"""Finds the start offsets of partitions that are read for the first time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

import attrs
import trio

from odin_ws.backoff import Backoff
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.monitor import Monitor, renewed
from odin_ws.kafka.offset_queries import Offsets, list_offsets
from odin_ws.kafka.offset_tracker import history_starts
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.protocol import EARLIEST, LATEST, NO_EPOCH
from odin_ws.kafka.topic_layout import Layout
from odin_ws.log_reader import Bounds
from odin_ws.records import TopicPartition

__all__ = ["StartOffsetFinder", "StartOffsets"]

_FIRST_RETRY_SECONDS: Final = 0.2


@attrs.frozen
class StartOffsets:
    """The start offsets of some partitions, or why they are unknown."""

    starts: Mapping[TopicPartition, int]
    """By partition the first offset to read."""
    ends: Mapping[TopicPartition, int]
    """By partition the end of history: records before it are history."""
    failed: Mapping[TopicPartition, str]
    """By partition why the start is unknown, in words."""
    is_first: bool = False
    """True if the instance starts with these partitions."""
    epochs: Mapping[TopicPartition, int] = attrs.field(factory=dict)
    """For partitions that start at the log's end, the leader epoch there, if known."""
    topic_ids: Mapping[str, str] = attrs.field(factory=dict)
    """By topic its id before the offsets were requested, if brokers have ids."""


class StartOffsetFinder:
    """Finds the start offset of each partition separately.

    At the start of the instance: the end, with some history before it. A partition whose query
    failed then, or whose topic appears later: the first record since the start. A partition that is
    added to an existing topic: its beginning.

    `is_first`: nothing was found yet.
    """

    def __init__(
        self, client: KafkaClient, layout: Layout, monitor: Monitor, options: KafkaOptions
    ) -> None:
        self._client = client
        self._layout = layout
        self._monitor = monitor
        self._options = options
        self._placed: set[TopicPartition] = set()
        # The partitions of the topics that existed at the start.
        self._at_start: frozenset[TopicPartition] | None = None
        self.is_first = True

    async def run(
        self, found: trio.MemorySendChannel[StartOffsets], wake: Callable[[], None]
    ) -> None:
        """Find start offsets as partitions appear, until cancelled; calls `wake` for results."""
        monitor = self._monitor
        backoff = Backoff(_FIRST_RETRY_SECONDS, self._options.probe)
        while True:
            changed = monitor.layout_changed
            self._placed &= self._layout.partitions
            waiting = self._layout.partitions - self._placed
            if monitor.started_ms is None or not (waiting or self.is_first):
                monitor.without_start_offset = {}
                await changed.wait()
                backoff.reset()
                continue
            placement = await self.find(waiting, monitor.started_ms)
            monitor.without_start_offset = {
                key: renewed(reason, monitor.without_start_offset.get(key))
                for key, reason in placement.failed.items()
            }
            if placement.starts or not waiting:
                self.is_first = False
                self._placed |= placement.starts.keys()
                await found.send(placement)
                wake()
            if placement.failed:
                monitor.request_metadata()
                with trio.move_on_after(backoff.next()):
                    await changed.wait()

    async def find(self, partitions: Collection[TopicPartition], started_ms: int) -> StartOffsets:
        """Return the start offsets of these partitions; `started_ms`: the start, epoch ms."""
        if self._at_start is None:
            self._at_start = self._layout.partitions
        ids = self._layout.topic_ids
        if self.is_first:
            found = await self._at_first(partitions)
        else:
            found = await self._since(partitions, started_ms)
        return attrs.evolve(found, topic_ids=ids)

    async def _at_first(self, partitions: Collection[TopicPartition]) -> StartOffsets:
        ends = await self._list_offsets(dict.fromkeys(partitions, LATEST))
        starts = await self._history_starts(ends.found)
        epochs = _at_end(starts, ends)
        return StartOffsets(starts, ends.found, ends.failed, is_first=True, epochs=epochs)

    async def _since(self, partitions: Collection[TopicPartition], started_ms: int) -> StartOffsets:
        old_topics = {key.topic for key in self._at_start or ()}
        times = {
            key: EARLIEST
            if key.topic in old_topics and key not in (self._at_start or ())
            else started_ms
            for key in partitions
        }
        # The end first: records published between the two queries come after it.
        ends = await self._list_offsets(dict.fromkeys(partitions, LATEST))
        young = await self._list_offsets({key: times[key] for key in ends.found})
        # A log without timestamps has no known records since the start.
        since = young.found | dict.fromkeys(young.undated, -1)
        starts = {key: at if at >= 0 else ends.found[key] for key, at in since.items()}
        failed = ends.failed | young.failed
        return StartOffsets(starts, starts, failed, epochs=_at_end(starts, ends))

    async def _history_starts(
        self, ends: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Return start offsets with the wanted history before the ends."""
        seconds, maximum = self._options.history_seconds, self._options.history_records
        if not seconds or not maximum or not ends:
            return ends
        firsts = await self._list_offsets(dict.fromkeys(ends, EARLIEST))
        since = await self._list_offsets(dict.fromkeys(ends, int((time.time() - seconds) * 1000)))
        bounds = {
            key: Bounds(firsts.found[key], end)
            for key, end in ends.items()
            if key in firsts.found and key in since.found
        }
        young = {key: since.found[key] for key in bounds if since.found[key] >= 0}
        # A partition whose history query fails starts without history.
        return dict(ends) | history_starts(bounds, young, maximum)

    async def _list_offsets(self, times: Mapping[TopicPartition, int]) -> Offsets:
        # The end of committed records: those of an open transaction come when it ends.
        return await list_offsets(self._client, times, self._monitor.leaders, committed=True)


def _at_end(starts: Mapping[TopicPartition, int], ends: Offsets) -> dict[TopicPartition, int]:
    """Return the epochs of the partitions that start at their ends.

    Without the epoch, an unclean election that truncates records before the first read would go
    unnoticed: a quiet partition has no record with an epoch yet.
    """
    return {
        key: ends.epochs[key]
        for key, start in starts.items()
        if start == ends.found[key] and ends.epochs[key] != NO_EPOCH
    }
