"""A client written from docs/protocol.md with the sans-I/O part of `websockets`.

The client uses no code of odin_ws, so it detects errors common to our client and our server.
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
from tests.chaos.plan import TOPICS, ClientSpec

__all__ = ["ResumingClient", "Socket", "follow"]

# Seconds without a byte after which the client sends a ping, and then disconnects.
SILENCE_SECONDS: Final = 5

# Timeout of a handshake, which takes milliseconds, or 5 s behind a balancer that waits for a silent
# instance.
OPEN_SECONDS: Final = 10
SEND_SECONDS: Final = 5

# Upper limits in seconds of the random delay between two attempts: the first limit, and the last
# after doublings.
FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 3.0

READ_BYTES: Final = 65536


class Rejected(Exception):
    """The server did not upgrade the connection."""


class ConnectionEnded(Exception):
    """The connection has ended: with or without a close frame, or by the client after a silence."""

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
        """Send the handshake and wait for the response. Raises Rejected or ConnectionEnded."""
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        while self._protocol.state is State.CONNECTING:
            await self._read()
            for event in self._protocol.events_received():
                if isinstance(event, Response) and event.status_code != 101:
                    raise Rejected(f"{event.status_code} {bytes(event.body or b'')[:100]!r}")
            if isinstance(error := self._protocol.handshake_exc, InvalidHandshake):
                raise Rejected(str(error))

    async def send(self, command: dict[str, Any]) -> None:
        """Send a command."""
        self._protocol.send_text(orjson.dumps(command))
        await self._flush()

    async def receive(self) -> list[dict[str, Any]]:
        """Return the next items, at least one. Raises ConnectionEnded."""
        while True:
            items = self._items()
            if (close := self._protocol.close_rcvd) is not None and not items:
                await self._flush()
                raise ConnectionEnded(close.code, close.reason)
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
                    raise ConnectionEnded(LOST, "")
                self._protocol.receive_data(bytes(data))
                # The pong for a ping of the server.
                await self._flush()
                return
            # No ping during the upgrade: pings are sent only on an open connection.
            if not asked and self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"?")
                await self._flush()
        raise ConnectionEnded(HEARTBEAT, f"nothing for {2 * SILENCE_SECONDS} s")

    async def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        with trio.move_on_after(SEND_SECONDS):
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                return  # the next read raises the error
            return
        raise ConnectionEnded(HEARTBEAT, f"nothing was taken for {SEND_SECONDS} s")


class ResumingClient:
    """A client over all its connections: it reconnects with `resume` after each disconnection."""

    def __init__(self, spec: ClientSpec, journal: Journal) -> None:
        self.spec = spec
        self.journal = journal
        # The largest offset of each partition, as required by docs/protocol.md.
        self.positions: dict[str, dict[str, int]] = {}
        self.reconnect_after: float | None = None
        self.retry = FIRST_RETRY_SECONDS

    async def run(self) -> None:
        """Connect again and again until cancelled."""
        place = urlsplit(self.spec.url)
        while True:
            self.reconnect_after = None
            try:
                stream = await trio.open_tcp_stream(place.hostname or "", place.port or 80)
            except OSError as error:
                self.journal.event("rejected", reason=str(error))
            else:
                async with stream:
                    await self.run_connection(Socket(stream, self.spec.url))
            await trio.sleep(self.pause())

    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        if self.reconnect_after is not None:
            return self.reconnect_after
        self.retry = min(self.retry * 2, LAST_RETRY_SECONDS)
        return random.uniform(0, self.retry)  # noqa: S311 -- spreads a crowd, keeps no secret

    async def run_connection(self, socket: Socket) -> None:
        """Upgrade a connection and receive until it ends."""
        try:
            with trio.fail_after(OPEN_SECONDS):
                await socket.upgrade()
        except (Rejected, ConnectionEnded, trio.TooSlowError) as error:
            self.journal.event("rejected", reason=f"{type(error).__name__} {error}")
            return
        try:
            await self.exchange(socket)
        except ConnectionEnded as ended:
            self.journal.event("closed", code=ended.code, reason=ended.reason)

    async def exchange(self, socket: Socket) -> None:
        """Send the first command, and record all items. Raises ConnectionEnded."""
        await socket.send(self.command())
        while True:
            for item in await socket.receive():
                if item["type"] == "error" and item["retry"]:
                    # The server cannot replay at the moment.
                    self.journal.event("put off", message=item["message"])
                    await trio.sleep(self.pause())
                    await socket.send(self.command())
                else:
                    self.record_item(item)

    def command(self) -> dict[str, Any]:
        """Return the first command: `resume`, or `subscribe` without positions."""
        kind = "resume" if self.positions else "subscribe"
        data = {"channels": self.spec.channels, "positions": self.positions or True}
        return {"type": kind, "id": 1, "data": data}

    def record_item(self, item: dict[str, Any]) -> None:
        """Record an item from the server."""
        match item["type"]:
            case "message":
                self.record_message(item)
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
                        self.advance(topic, partition, offset)
            case "reconnect":
                self.reconnect_after = item["data"]["after_ms"] / 1000
            case "feed" if item["status"] in {"stalled", "live"}:
                self.journal.event("feed", status=item["status"])
            case "replay_complete":
                pass
            case _:
                # A loss, or an error response: an error in these runs.
                self.journal.event("error", message=json.dumps(item))

    def record_message(self, item: dict[str, Any]) -> None:
        """Record a message."""
        topic = TOPICS[item["channel"].rpartition(".")[2]]
        partition, _, offset = item["pos"].partition("-")
        number = int(offset)
        replay = item.get("replay", False)
        self.journal.message(topic, int(partition), number, item["ts"], replay=replay)
        self.advance(topic, partition, number)

    def advance(self, topic: str, partition: str, offset: int) -> None:
        """Set the position of a partition to an offset, if larger than before."""
        kept = self.positions.setdefault(topic, {})
        kept[partition] = max(offset, kept.get(partition, -1))


async def follow(spec: ClientSpec, journal: Journal) -> None:
    """Subscribe, and resume after each disconnection, until cancelled."""
    await ResumingClient(spec, journal).run()
