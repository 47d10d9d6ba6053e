"""What every subscriber is told about the feed: that it stalled, that it is back, what is lost."""

from __future__ import annotations

import math
import time

import trio

from odin_ws.connection.server import ConnectionServer
from odin_ws.hub import Intake, Jumps
from odin_ws.protocol.answers import Lost, feed_notice, lost_notice
from odin_ws.resume import Losses, Reason
from odin_ws.source.feed import Feed, FeedStatus

__all__ = ["tell_of_feed", "tell_of_losses"]


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


async def tell_of_losses(intake: Intake, server: ConnectionServer) -> None:
    """Say which records the log deleted before they were read, and which topics began anew."""
    # The hub does not wait; a loss is rare, and each is told.
    send, receive = trio.open_memory_channel[Jumps](math.inf)
    intake.jumped = send.send_nowait
    async for jumps in receive:
        for reason, spans in (
            (Reason.EXPIRED, jumps.over),
            (Reason.UNKNOWN_POSITION, jumps.back),
        ):
            if spans:
                losses = Losses(dict(spans), {reason})
                await server.announce(lost_notice(Lost(losses.by_topic(), reason)))


def _epoch_ms(at: float) -> int:
    """A time of Trio's clock as epoch milliseconds."""
    return round(1000 * (time.time() - (trio.current_time() - at)))
