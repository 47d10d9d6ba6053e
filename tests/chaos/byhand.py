"""A client by the book: docs/protocol.md and the `websockets` library, nothing of odin_ws.

What our own client and our server misunderstand together is seen by these.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.trio.client import ClientConnection, connect

from tests.chaos.journal import HEARTBEAT, LOST, Journal
from tests.chaos.plan import TOPICS, Seat

__all__ = ["follow"]

# A connection that has not answered a ping for so long is given up.
PING_SECONDS: Final = 5
PONG_SECONDS: Final = 5

# Opening one takes milliseconds; behind a balancer that waits for a silent instance, 5 seconds.
OPEN_SECONDS: Final = 10
CLOSE_SECONDS: Final = 1

# Between two attempts: at random up to this, which doubles from the first to the second.
FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 3.0


class _Follower:
    def __init__(self, seat: Seat, journal: Journal) -> None:
        self.seat = seat
        self.journal = journal
        # What docs/protocol.md tells a client to keep: the largest offset of each partition.
        self.positions: dict[str, dict[str, int]] = {}
        self.come_back_after: float | None = None
        self.retry = FIRST_RETRY_SECONDS

    async def run(self) -> None:
        while True:
            self.come_back_after = None
            try:
                async with connect(
                    self.seat.url,
                    proxy=None,
                    compression=None,
                    open_timeout=OPEN_SECONDS,
                    close_timeout=CLOSE_SECONDS,
                    ping_interval=PING_SECONDS,
                    ping_timeout=PONG_SECONDS,
                    # No pause in reading: a pong would wait behind messages, and look lost.
                    max_queue=None,
                ) as websocket:
                    await self.converse(websocket)
            except ConnectionClosed as closed:
                self.note_close(closed)
            except (OSError, InvalidHandshake, InvalidMessage, EOFError) as error:
                self.journal.event("refused", reason=f"{type(error).__name__}: {error}")
            await trio.sleep(self.pause())

    def pause(self) -> float:
        if self.come_back_after is not None:
            return self.come_back_after
        self.retry = min(self.retry * 2, LAST_RETRY_SECONDS)
        return random.uniform(0, self.retry)  # noqa: S311 -- spreads a crowd, keeps no secret

    def note_close(self, closed: ConnectionClosed) -> None:
        if closed.rcvd is not None:
            code, reason = closed.rcvd.code, closed.rcvd.reason
        elif closed.sent is not None:
            # Nobody but the library's keepalive closes a connection of ours.
            code, reason = HEARTBEAT, closed.sent.reason
        else:
            code, reason = LOST, ""
        self.journal.event("closed", code=code, reason=reason)

    async def converse(self, websocket: ClientConnection) -> None:
        await websocket.send(self.command())
        while True:
            item = json.loads(await websocket.recv())
            if item["type"] == "error" and item["retry"]:
                # The server cannot look at its past just now.
                self.journal.event("put off", message=item["message"])
                await trio.sleep(self.pause())
                await websocket.send(self.command())
            else:
                self.take(item)

    def command(self) -> str:
        """What to say first: resume, or subscribe where there is nothing to go on from."""
        kind = "resume" if self.positions else "subscribe"
        positions = self.positions or True
        data = {"channels": self.seat.channels, "positions": positions}
        return json.dumps({"type": kind, "id": 1, "data": data})

    def take(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "message":
                self.take_message(item)
            case "subscription_ack":
                self.retry = FIRST_RETRY_SECONDS
                self.journal.event("subscribed", positions=item["positions"])
                self.positions = copy.deepcopy(item["positions"])
            case "resume_ack":
                self.retry = FIRST_RETRY_SECONDS
                self.journal.event(
                    "resumed",
                    recovered=item["recovered"],
                    replayed=item["replayed"],
                    lost=item.get("lost"),
                    reason=item.get("reason"),
                )
            case "reconnect":
                self.come_back_after = item["data"]["after_ms"] / 1000
            case "feed" if item["status"] in {"stalled", "live"}:
                self.journal.event("feed", status=item["status"])
            case "replay_complete":
                pass
            case _:
                # A loss, or a refusal: neither has a place in these runs.
                self.journal.event("error", message=json.dumps(item))

    def take_message(self, item: dict[str, Any]) -> None:
        topic = TOPICS[item["channel"].rpartition(".")[2]]
        partition, _, offset = item["pos"].partition("-")
        number = int(offset)
        self.journal.message(topic, int(partition), number, replay=item.get("replay", False))
        kept = self.positions.setdefault(topic, {})
        kept[partition] = max(number, kept.get(partition, -1))


async def follow(seat: Seat, journal: Journal) -> None:
    """Subscribe, and come back with `resume` after whatever happens, until cancelled."""
    await _Follower(seat, journal).run()
