"""A client by the book: docs/protocol.md and the sans-I/O part of `websockets`, nothing of odin_ws.

What our own client and our server misunderstand together is seen by these.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.chaos.journal import HEARTBEAT, LOST, Journal
from tests.chaos.plan import TOPICS, Seat

__all__ = ["Follower", "Socket", "follow"]

# After so long without a byte the server is asked (ping), and given up after as long again.
SILENCE_SECONDS: Final = 5

# Opening takes milliseconds; behind a balancer that waits for a silent instance, 5 seconds.
OPEN_SECONDS: Final = 10
SEND_SECONDS: Final = 5

# Between two attempts: at random up to this, which doubles from the first to the second.
FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 3.0

READ_BYTES: Final = 65536


class Refused(Exception):
    """The server did not upgrade the connection."""


class Ended(Exception):
    """The connection has ended, without a close frame, or because we gave it up."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Socket:
    """A WebSocket on a TCP stream."""

    def __init__(self, stream: trio.SocketStream, url: str) -> None:
        self._stream = stream
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)

    async def upgrade(self) -> None:
        """Raises Rejected or Ended."""
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        while self._protocol.state is State.CONNECTING:
            await self._read()
            for event in self._protocol.events_received():
                if isinstance(event, Response) and event.status_code != 101:
                    raise Refused(f"{event.status_code} {bytes(event.body or b'')[:100]!r}")
            if isinstance(error := self._protocol.handshake_exc, InvalidHandshake):
                raise Refused(str(error))

    async def send(self, command: dict[str, Any]) -> None:
        """Send a command."""
        self._protocol.send_text(orjson.dumps(command))
        await self._flush()

    async def receive(self) -> list[dict[str, Any]]:
        """The next items, at least one. Raises Ended."""
        while True:
            items = self._items()
            if (close := self._protocol.close_rcvd) is not None and not items:
                await self._flush()
                raise Ended(close.code, close.reason)
            if items:
                return items
            await self._read()

    def _items(self) -> list[dict[str, Any]]:
        return [
            orjson.loads(event.data)
            for event in self._protocol.events_received()
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT
        ]

    async def _read(self) -> None:
        for asked in (False, True):
            with trio.move_on_after(SILENCE_SECONDS):
                try:
                    data = await self._stream.receive_some(READ_BYTES)
                except trio.BrokenResourceError:
                    data = b""
                if not data:
                    raise Ended(LOST, "")
                self._protocol.receive_data(bytes(data))
                # The pong that a ping of the server asks for.
                await self._flush()
                return
            if not asked:
                self._protocol.send_ping(b"?")
                await self._flush()
        raise Ended(HEARTBEAT, f"nothing for {2 * SILENCE_SECONDS} s")

    async def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        with trio.move_on_after(SEND_SECONDS):
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                return  # reading tells how it ended
            return
        raise Ended(HEARTBEAT, f"nothing was taken for {SEND_SECONDS} s")


class Follower:
    """One client over all its connections: it comes back with `resume` after whatever happens."""

    def __init__(self, seat: Seat, journal: Journal) -> None:
        self.seat = seat
        self.journal = journal
        # By docs/protocol.md a client keeps the largest offset of each partition.
        self.positions: dict[str, dict[str, int]] = {}
        self.come_back_after: float | None = None
        self.retry = FIRST_RETRY_SECONDS

    async def run(self) -> None:
        """Follow until cancelled."""
        place = urlsplit(self.seat.url)
        while True:
            self.come_back_after = None
            try:
                stream = await trio.open_tcp_stream(place.hostname or "", place.port or 80)
            except OSError as error:
                self.journal.event("rejected", reason=str(error))
            else:
                async with stream:
                    await self.stay(Socket(stream, self.seat.url))
            await trio.sleep(self.pause())

    def pause(self) -> float:
        """Seconds until the next attempt."""
        if self.come_back_after is not None:
            return self.come_back_after
        self.retry = min(self.retry * 2, LAST_RETRY_SECONDS)
        return random.uniform(0, self.retry)  # noqa: S311 -- spreads a crowd, keeps no secret

    async def stay(self, socket: Socket) -> None:
        """Upgrade a connection and follow until it ends."""
        try:
            with trio.fail_after(OPEN_SECONDS):
                await socket.upgrade()
        except (Refused, Ended, trio.TooSlowError) as error:
            self.journal.event("rejected", reason=f"{type(error).__name__} {error}")
            return
        try:
            await self.converse(socket)
        except Ended as ended:
            self.journal.event("closed", code=ended.code, reason=ended.reason)

    async def converse(self, socket: Socket) -> None:
        """Say what to say first, and take what comes. Raises Ended."""
        await socket.send(self.command())
        while True:
            for item in await socket.receive():
                if item["type"] == "error" and item["retry"]:
                    # The server cannot look at its past just now.
                    self.journal.event("put off", message=item["message"])
                    await trio.sleep(self.pause())
                    await socket.send(self.command())
                else:
                    self.take(item)

    def command(self) -> dict[str, Any]:
        """The first command: resume, or subscribe without positions to go on from."""
        kind = "resume" if self.positions else "subscribe"
        data = {"channels": self.seat.channels, "positions": self.positions or True}
        return {"type": kind, "id": 1, "data": data}

    def take(self, item: dict[str, Any]) -> None:
        """Note what the server has sent."""
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
            case "positions":
                for topic, offsets in item["positions"].items():
                    for partition, offset in offsets.items():
                        self.reach(topic, partition, offset)
            case "reconnect":
                self.come_back_after = item["data"]["after_ms"] / 1000
            case "feed" if item["status"] in {"stalled", "live"}:
                self.journal.event("feed", status=item["status"])
            case "replay_complete":
                pass
            case _:
                # A loss, or a rejection: neither has a place in these runs.
                self.journal.event("error", message=json.dumps(item))

    def take_message(self, item: dict[str, Any]) -> None:
        """Note a message."""
        topic = TOPICS[item["channel"].rpartition(".")[2]]
        partition, _, offset = item["pos"].partition("-")
        number = int(offset)
        replay = item.get("replay", False)
        self.journal.message(topic, int(partition), number, item["ts"], replay=replay)
        self.reach(topic, partition, number)

    def reach(self, topic: str, partition: str, offset: int) -> None:
        """Keep the larger position."""
        kept = self.positions.setdefault(topic, {})
        kept[partition] = max(offset, kept.get(partition, -1))


async def follow(seat: Seat, journal: Journal) -> None:
    """Subscribe, and come back with `resume` after whatever happens, until cancelled."""
    await Follower(seat, journal).run()
