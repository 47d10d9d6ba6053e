"""A client of ours, odin_ws_client, whose every item is written down."""

from __future__ import annotations

from typing import Final

from odin_ws_client import (
    ClientError,
    Disconnected,
    FeedChange,
    Item,
    Message,
    Resumed,
    Subscribed,
    Subscription,
)
from odin_ws_client.trio import Client, open_client
from tests.chaos.journal import HEARTBEAT, LOST, Journal
from tests.chaos.plan import Seat

__all__ = ["follow"]

# After so long without a byte the server is asked, and given up after as long again.
SILENCE_SECONDS: Final = 5

# How the client says that it gave a silent server up; it has no close code for that.
SILENCE: Final = ("nothing came from the server", "the server has taken nothing")


class _Follower:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.connected = False

    def take(self, item: Item) -> None:
        match item:
            case Message():
                self.journal.message(
                    item.topic, item.partition, item.offset, item.timestamp, replay=item.replay
                )
            case Subscribed():
                self.connected = True
                self.journal.event("subscribed", positions=item.positions)
            case Resumed():
                self.connected = True
                self.journal.event(
                    "resumed",
                    recovered=item.recovered,
                    replayed=item.replayed,
                    lost=item.lost,
                    reason=item.reason,
                )
            case FeedChange():
                self.journal.event("feed", status=item.status)
            case Disconnected():
                self.take_end(item)

    def take_end(self, item: Disconnected) -> None:
        silent = item.code == LOST and item.reason.startswith(SILENCE)
        code = HEARTBEAT if silent else item.code
        # An attempt that failed is no close, and costs time only.
        kind = "closed" if self.connected else "rejected"
        self.connected = False
        self.journal.event(kind, code=code, reason=item.reason)

    def tell(self, client: Client) -> None:
        self.journal.told = {"duplicates": client.duplicates, "gaps": client.gaps}


async def follow(seat: Seat, journal: Journal) -> None:
    """Follow until cancelled; the client comes back and resumes by itself."""
    follower = _Follower(journal)
    wanted = Subscription(channels=seat.channels)
    async with open_client(seat.url, wanted, silence_seconds=SILENCE_SECONDS) as client:
        try:
            async for item in client:
                follower.take(item)
        except ClientError as error:
            journal.event("error", message=str(error))
        finally:
            follower.tell(client)
