"""Broadcasts feed status, offset gaps and lost records to all subscribers."""

from __future__ import annotations

import time

import trio

from odin_ws.connection.open_connections import OpenConnections
from odin_ws.hub import OffsetGaps, Stream
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.protocol.responses import Lost, feed_notice, lost_notice
from odin_ws.records import GapReason
from odin_ws.resume import LossReason, LostSpans

__all__ = ["broadcast_feed_status", "broadcast_offset_gaps", "close_rebalanced_subscribers"]


async def broadcast_feed_status(source_status: SourceStatus, connections: OpenConnections) -> None:
    """Announce stalls and recoveries: of the feed to all, of topics to their subscribers.

    A client that connects during a stall gets the announcement first.
    """
    await source_status.state.wait_value(SourceState.LIVE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_broadcast_status, source_status, connections)
        nursery.start_soon(_broadcast_stalled_topics, source_status, connections)


async def _broadcast_status(source_status: SourceStatus, connections: OpenConnections) -> None:
    while True:
        await source_status.state.wait_value(SourceState.STALLED)
        connections.current_notices["feed"] = feed_notice("stalled", _epoch_ms(source_status.since))
        await connections.announce(connections.current_notices["feed"])
        await source_status.state.wait_value(SourceState.LIVE)
        del connections.current_notices["feed"]
        await connections.announce(feed_notice("live", _epoch_ms(source_status.since)))


async def _broadcast_stalled_topics(
    source_status: SourceStatus, connections: OpenConnections
) -> None:
    announced: frozenset[str] = frozenset()
    while True:
        stalled = await source_status.stalled_topics.wait_value(
            lambda topics, announced=announced: topics != announced
        )
        now_ms = _epoch_ms(trio.current_time())
        for status, topics in ("stalled", stalled - announced), ("live", announced - stalled):
            # Topic by topic: subscribers of one topic get no announcement about others.
            for topic in sorted(topics):
                await connections.announce(feed_notice(status, now_ms, [topic]), {topic})
        connections.current_notices.pop("topics", None)
        if stalled:
            connections.current_notices["topics"] = feed_notice("stalled", now_ms, sorted(stalled))
        announced = stalled


async def close_rebalanced_subscribers(stream: Stream, connections: OpenConnections) -> None:
    """Close clients whose subscriptions are no longer served completely.

    The consumer group has moved partitions to another instance, which delivers their new records.
    """
    while True:
        topics = await stream.revoked_topics.wait_value(bool)
        await connections.close_rebalanced(topics)
        stream.revoked_topics.value -= topics


def broadcast_offset_gaps(connections: OpenConnections, gaps: OffsetGaps) -> None:
    """Report lost, recreated and truncated partitions to every connection.

    The hub calls it before it sends later messages: a client must know first that offsets restart.
    """
    for reason, spans in gaps.spans.items():
        losses = LostSpans(dict(spans), {LossReason(reason)})
        lost = Lost(losses.by_topic(), reason)
        if reason is GapReason.EXPIRED:
            notice = lost_notice(lost)
        else:
            topics = sorted({key.topic for key in spans})
            positions: dict[str, dict[int, int]] = {}
            for key in spans:
                positions.setdefault(key.topic, {})[key.partition] = gaps.positions[key]
            ids = {topic: gaps.ids[topic] for topic in topics if topic in gaps.ids}
            notice = lost_notice(lost, positions, ids)
        connections.announce_now(notice)


def _epoch_ms(at: float) -> int:
    """Return a time of Trio's clock as epoch milliseconds."""
    return round(1000 * (time.time() - (trio.current_time() - at)))
