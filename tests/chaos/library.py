"""A client with odin_ws_client that records all items."""

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
from tests.chaos.plan import ClientSpec

__all__ = ["follow"]

# Seconds without a byte after which the client sends a heartbeat, and then disconnects.
SILENCE_SECONDS: Final = 5

# The client's reasons for a disconnection from a silent server, which has no close code.
SILENCE: Final = ("nothing came from the server", "the server has taken nothing")


class _Recorder:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.connected = False

    def record_item(self, item: Item) -> None:
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
                self.record_end(item)

    def record_end(self, item: Disconnected) -> None:
        silent = item.code == LOST and item.reason.startswith(SILENCE)
        code = HEARTBEAT if silent else item.code
        # A failed attempt is no close: it only delays messages.
        kind = "closed" if self.connected else "rejected"
        self.connected = False
        self.journal.event(kind, code=code, reason=item.reason)

    def record_counts(self, client: Client) -> None:
        self.journal.reported = {"duplicates": client.duplicates, "gaps": client.gaps}


async def follow(spec: ClientSpec, journal: Journal) -> None:
    """Record items until cancelled; odin_ws_client reconnects and resumes."""
    recorder = _Recorder(journal)
    wanted = Subscription(channels=spec.channels)
    async with open_client(spec.url, wanted, silence_seconds=SILENCE_SECONDS) as client:
        try:
            async for item in client:
                recorder.record_item(item)
        except ClientError as error:
            journal.event("error", message=str(error))
        finally:
            recorder.record_counts(client)
