"""What every subscriber is told about the feed: that it stalled, that it is back, what is lost."""

from __future__ import annotations

import time

import trio

from odin_ws.hub import Intake, Jumps
from odin_ws.kafka.source_status import Feed, FeedStatus
from odin_ws.protocol.responses import Lost, feed_notice, lost_notice
from odin_ws.records import JumpReason
from odin_ws.resume import Losses, Reason
from odin_ws.server import ConnectionServer

__all__ = ["tell_of_feed", "tell_of_jumps", "tell_of_rebalances"]


async def tell_of_feed(feed: Feed, server: ConnectionServer) -> None:
    """Say what has stalled and what is live again: the feed to all, topics to their subscribers.

    Who connects while something is stalled is told of it first.
    """
    await feed.status.wait_value(FeedStatus.LIVE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_of_status, feed, server)
        nursery.start_soon(_tell_of_topics, feed, server)


async def _tell_of_status(feed: Feed, server: ConnectionServer) -> None:
    while True:
        await feed.status.wait_value(FeedStatus.STALLED)
        server.standing["feed"] = feed_notice("stalled", _epoch_ms(feed.since))
        await server.announce(server.standing["feed"])
        await feed.status.wait_value(FeedStatus.LIVE)
        del server.standing["feed"]
        await server.announce(feed_notice("live", _epoch_ms(feed.since)))


async def _tell_of_topics(feed: Feed, server: ConnectionServer) -> None:
    told: frozenset[str] = frozenset()
    while True:
        stalled = await feed.stalled_topics.wait_value(lambda topics, told=told: topics != told)
        now_ms = _epoch_ms(trio.current_time())
        for status, topics in ("stalled", stalled - told), ("live", told - stalled):
            # One by one: who subscribes to one of them is not told of the others.
            for topic in sorted(topics):
                await server.announce(feed_notice(status, now_ms, [topic]), {topic})
        server.standing.pop("topics", None)
        if stalled:
            server.standing["topics"] = feed_notice("stalled", now_ms, sorted(stalled))
        told = stalled


async def tell_of_rebalances(intake: Intake, server: ConnectionServer) -> None:
    """Send clients elsewhere whose subscriptions are not served whole any more.

    A group has given partitions to another instance: what is published in them comes there.
    """
    while True:
        topics = await intake.departed.wait_value(bool)
        intake.departed.value = frozenset()
        await server.send_elsewhere(topics)


def tell_of_jumps(server: ConnectionServer, jumps: Jumps) -> None:
    """Report lost, recreated and truncated partitions to every connection.

    The hub calls it before it sends what comes after: a client has to know first that offsets begin
    again.
    """
    for reason, spans in jumps.spans.items():
        losses = Losses(dict(spans), {Reason(reason)})
        lost = Lost(losses.by_topic(), reason)
        if reason is JumpReason.EXPIRED:
            notice = lost_notice(lost)
        else:
            topics = sorted({key.topic for key in spans})
            positions: dict[str, dict[int, int]] = {}
            for key in spans:
                positions.setdefault(key.topic, {})[key.partition] = jumps.positions[key]
            ids = {topic: jumps.ids[topic] for topic in topics if topic in jumps.ids}
            notice = lost_notice(lost, positions, ids)
        server.announce_now(notice)


def _epoch_ms(at: float) -> int:
    """A time of Trio's clock as epoch milliseconds."""
    return round(1000 * (time.time() - (trio.current_time() - at)))
