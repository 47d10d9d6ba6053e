"""What every subscriber is told about the feed: that it stalled, that it is back, what is lost."""

from __future__ import annotations

import time

import trio

from odin_ws.connection.server import ConnectionServer
from odin_ws.hub import Jumps
from odin_ws.kafka.feed import Feed, FeedStatus
from odin_ws.protocol.answers import Lost, feed_notice, lost_notice
from odin_ws.resume import Losses, Reason

__all__ = ["tell_of_feed", "tell_of_jumps"]


async def tell_of_feed(feed: Feed, server: ConnectionServer) -> None:
    """Say once that the feed has stalled, also to those who come then, and once that it is back."""
    await feed.status.wait_value(FeedStatus.LIVE)
    while True:
        await feed.status.wait_value(FeedStatus.STALLED)
        server.standing = feed_notice("stalled", _epoch_ms(feed.since))
        await server.announce(server.standing)
        await feed.status.wait_value(FeedStatus.LIVE)
        server.standing = None
        await server.announce(feed_notice("live", _epoch_ms(feed.since)))


def tell_of_jumps(server: ConnectionServer, jumps: Jumps) -> None:
    """Say which records the log deleted before they were read, and which topics began anew.

    Called by the hub before it sends what comes after: a client has to know first that offsets
    begin again.
    """
    for reason, spans in (
        (Reason.EXPIRED, jumps.over),
        (Reason.UNKNOWN_POSITION, jumps.back),
    ):
        if spans:
            losses = Losses(dict(spans), {reason})
            server.announce_now(lost_notice(Lost(losses.by_topic(), reason)))


def _epoch_ms(at: float) -> int:
    """A time of Trio's clock as epoch milliseconds."""
    return round(1000 * (time.time() - (trio.current_time() - at)))
