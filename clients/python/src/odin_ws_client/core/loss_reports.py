"""Reports of records that Kafka lost or deleted before the server read them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from odin_ws_client.core.counts import Counts
from odin_ws_client.core.fields import by_partition, count_lost, read_ids, read_range
from odin_ws_client.core.items import Checkpoint, Ids, Lost, Positions, Resumed
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.subscription_set import SubscriptionSet

__all__ = ["LossReports"]


class LossReports:
    """Reads the reports of one connection, moves positions past the loss, and counts the offsets.

    Args:
        subscriptions: the subscriptions whose positions move.
        counts: the client's counters.
    """

    def __init__(self, subscriptions: SubscriptionSet, counts: Counts) -> None:
        self._subscriptions = subscriptions
        self._counts = counts

    def in_replay(self, fields: dict[str, Any], tracker: OffsetTracker) -> Resumed:
        """Handle a loss in a replay: Kafka deleted records before the server read them.

        Args:
            fields: the server's report.
            tracker: the positions that the replay advances.
        """
        lost = by_partition(fields["lost"], read_range)
        # The server reports the loss at the end of the replay, behind the records after the loss.
        positions = {
            topic: {
                partition: max(last, tracker.offset(topic, partition))
                for partition, (_, last) in partitions.items()
            }
            for topic, partitions in lost.items()
        }
        item = self._count(fields, lost, positions)
        tracker.follow(Checkpoint(item.positions, item.ids))
        return item

    def in_feed(self, fields: dict[str, Any], followed: Collection[str]) -> Resumed | None:
        """Handle a loss in the live feed, which the server reports to every client.

        Returns None if no topic of the loss is in `followed`, the topics of the client.
        """
        lost = {
            topic: partitions
            for topic, partitions in by_partition(fields["lost"], read_range).items()
            if topic in followed
        }
        if not lost:
            return None
        ids = {topic: topic_id for topic, topic_id in read_ids(fields).items() if topic in followed}
        # The report's positions are where offsets begin again. Positions only move back: a replay
        # may still be before the loss. Without positions in the report, only messages move them.
        given = by_partition(fields.get("positions", {}), int)
        positions = self._subscriptions.retreat(
            {topic: partitions for topic, partitions in given.items() if topic in followed}, ids
        )
        return self._count(fields, lost, positions, ids)

    def _count(
        self, fields: dict[str, Any], lost: Lost, positions: Positions, ids: Ids | None = None
    ) -> Resumed:
        item = Resumed(
            recovered=False,
            replayed=None,
            lost=lost,
            reason=str(fields["reason"]),
            seconds_away=None,
            names=(),
            rejected=(),
            positions=positions,
            ids=ids or {},
        )
        self._counts.lost += count_lost(lost)
        return item
