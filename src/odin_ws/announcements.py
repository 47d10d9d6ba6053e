"""Broadcasts feed status, offset gaps and lost records to all subscribers."""

from __future__ import annotations

import time

import trio

from odin_ws.hub import OffsetGaps, Stream
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.protocol.responses import Lost, feed_notice, lost_notice
from odin_ws.records import GapReason
from odin_ws.resume import LossReason, LostSpans
from odin_ws.server import ConnectionServer

__all__ = ["broadcast_feed_status", "broadcast_offset_gaps", "close_rebalanced_subscribers"]


async def broadcast_feed_status(source_status: SourceStatus, server: ConnectionServer) -> None:
    """Announce stalls and recoveries: of the feed to all, of topics to their subscribers.

    A client that connects during a stall gets the announcement first.
    """
    await source_status.state.wait_value(SourceState.LIVE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_broadcast_status, source_status, server)
        nursery.start_soon(_broadcast_stalled_topics, source_status, server)


async def _broadcast_status(source_status: SourceStatus, server: ConnectionServer) -> None:
    while True:
        await source_status.state.wait_value(SourceState.STALLED)
        server.current_notices["feed"] = feed_notice("stalled", _epoch_ms(source_status.since))
        await server.announce(server.current_notices["feed"])
        await source_status.state.wait_value(SourceState.LIVE)
        del server.current_notices["feed"]
        await server.announce(feed_notice("live", _epoch_ms(source_status.since)))


async def _broadcast_stalled_topics(source_status: SourceStatus, server: ConnectionServer) -> None:
    told: frozenset[str] = frozenset()
    while True:
        stalled = await source_status.stalled_topics.wait_value(
            lambda topics, told=told: topics != told
        )
        now_ms = _epoch_ms(trio.current_time())
        for status, topics in ("stalled", stalled - told), ("live", told - stalled):
            # Topic by topic: subscribers of one topic get no announcement about others.
            for topic in sorted(topics):
                await server.announce(feed_notice(status, now_ms, [topic]), {topic})
        server.current_notices.pop("topics", None)
        if stalled:
            server.current_notices["topics"] = feed_notice("stalled", now_ms, sorted(stalled))
        told = stalled


async def close_rebalanced_subscribers(stream: Stream, server: ConnectionServer) -> None:
    """Close clients whose subscriptions are no longer served completely.

    The consumer group has moved partitions to another instance, which delivers their new records.
    """
    while True:
        topics = await stream.revoked_topics.wait_value(bool)
        stream.revoked_topics.value = frozenset()
        await server.close_rebalanced(topics)


def broadcast_offset_gaps(server: ConnectionServer, gaps: OffsetGaps) -> None:
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
        server.announce_now(notice)


def _epoch_ms(at: float) -> int:
    """Return a time of Trio's clock as epoch milliseconds."""
    return round(1000 * (time.time() - (trio.current_time() - at)))
