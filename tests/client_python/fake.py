"""A scripted server in memory, and a client that follows it."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import orjson
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from odin_ws_client import ClientError, Message, Subscription
from odin_ws_client.core.client import BaseClient
from tests.client_python.shells import Open

__all__ = [
    "START",
    "TRADES",
    "FakeServer",
    "Highest",
    "Visit",
    "accept_header",
    "answer_by_hand",
    "begin",
    "ending",
    "message_text",
    "take",
    "take_offsets",
]

T = TypeVar("T")

CATEGORIES: Final = {"trade": "odin.trades", "balances": "odin.balances"}
TRADES: Final = Subscription(channels=["*.trade"])

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

# Virtual seconds after which a test that waits in vain fails.
PATIENCE: Final = 600


class Highest(random.Random):
    """Jitter that is always the most it may be."""

    def uniform(self, a: float, b: float) -> float:
        """The upper end."""
        assert a <= b
        return b


def message_text(seq: int, pos: str, channel: str = "BTC.trade", **more: Any) -> str:
    """A message as the server writes it; `more` comes behind `seq`."""
    head = {"seq": seq} | more
    rest = {"ts": 1000 + seq, "type": "message", "channel": channel, "pos": pos}
    return orjson.dumps(head | rest | {"data": {"n": seq}}).decode()


class Visit:
    """The server's side of one connection."""

    def __init__(
        self, websocket: trio_websocket.WebSocketConnection, stream: trio.abc.Stream
    ) -> None:
        self.websocket = websocket
        self.stream = stream

    async def command(self) -> dict[str, Any]:
        """The next command."""
        with trio.fail_after(PATIENCE):
            command = orjson.loads(await self.websocket.get_message())
        assert isinstance(command, dict)
        return command

    async def send_item(self, **fields: Any) -> None:
        """Send an object."""
        await self.websocket.send_message(orjson.dumps(fields).decode())

    async def accept(
        self, positions: Mapping[str, Mapping[str, int]] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Wait for the command, and answer that all of it took effect; returns the command."""
        command = await self.command()
        kind, data = command["type"], command["data"]
        names = [
            name for field in ("channels", "topics", "bundles") for name in data.get(field, ())
        ]
        response = {
            "type": "resume_ack" if kind == "resume" else "subscription_ack",
            "id": command["id"],
            "subscribed": names,
            "rejected": [],
            "count": len(names),
            "categories": CATEGORIES,
            "positions": {} if positions is None else positions,
        }
        if kind == "resume":
            response |= {"recovered": True, "replayed": 0}
        await self.send_item(**response | more)
        return command

    async def message(self, seq: int, pos: str, channel: str = "BTC.trade", **more: Any) -> None:
        """Send a message."""
        await self.websocket.send_message(message_text(seq, pos, channel, **more))

    async def close(self, code: int, reason: str = "") -> None:
        """Close as a server does."""
        with trio.fail_after(PATIENCE):
            await self.websocket.aclose(code, reason)

    async def cut(self) -> None:
        """End without a close frame."""
        await trio.aclose_forcefully(self.stream)

    async def closed(self) -> tuple[int, str | None]:
        """Wait until the client has closed; code and reason."""
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await self.websocket.get_message()
                except trio_websocket.ConnectionClosed:
                    reason = self.websocket.closed
                    assert reason is not None
                    return int(reason.code), reason.reason


class FakeServer:
    """What clients connect to.

    `times`: when they tried. `failures`: what the first of them get. `pair`: makes a wire.
    `open_client`: of the shell that is tested.
    """

    def __init__(self, nursery: trio.Nursery, open_client: Open) -> None:
        self.open_client = open_client
        self.times: list[float] = []
        self.failures: deque[OSError] = deque()
        self.pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair
        self._nursery = nursery
        self._send, self._callers = trio.open_memory_channel[trio.abc.Stream](100)

    async def connect(self) -> trio.abc.Stream:
        """Dial it."""
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.popleft()
        ours, theirs = self.pair()
        await self._send.send(theirs)
        return ours

    async def dialled(self) -> trio.abc.Stream:
        """The server's end of the next connection, before any handshake."""
        with trio.fail_after(PATIENCE):
            return await self._callers.receive()

    async def request(self) -> tuple[trio_websocket.WebSocketRequest, trio.abc.Stream]:
        """The next connection, which asks for a WebSocket."""
        stream = await self.dialled()
        with trio.fail_after(PATIENCE):
            return await trio_websocket.wrap_server_stream(
                self._nursery,
                stream,
            ), stream

    async def attempt(self) -> Visit:
        """The next connection, upgraded."""
        request, stream = await self.request()
        return Visit(await request.accept(), stream)

    async def reject(
        self, status: int, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer the next connection with an HTTP status."""
        request, stream = await self.request()
        await request.reject(status, extra_headers=list(headers), body=body or None)
        await trio.aclose_forcefully(stream)

    def follow(
        self, subscriptions: Subscription | Iterable[Subscription] = TRADES, **options: Any
    ) -> AbstractAsyncContextManager[BaseClient]:
        """A client of it; its jitter is always the most it may be."""
        usual: dict[str, Any] = {"rng": Highest(), "connect": self.connect}
        return self.open_client("ws://odin.test/ws", subscriptions, **usual | options)


async def answer_by_hand(stream: trio.abc.Stream, more: bytes = b"", headers: bytes = b"") -> None:
    """Upgrade without a WebSocket library; `more` comes in one piece with the answer.

    `headers`: further lines of the answer's head.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive_some()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + accept_header(head)
        + headers
        + b"\r\n"
        + more
    )


def accept_header(request: bytes) -> bytes:
    """The line with which a server accepts a request."""
    (key,) = re.findall(rb"(?i)sec-websocket-key: (\S+)", request)
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 -- RFC 6455, 4.2.2
    return b"Sec-WebSocket-Accept: " + accept + b"\r\n"


async def take(client: BaseClient, kind: type[T]) -> T:
    """The client's next item, which has to be of a kind."""
    with trio.fail_after(PATIENCE):
        item = await anext(client)
    assert isinstance(item, kind), item
    return item


async def take_offsets(client: BaseClient, count: int) -> list[int]:
    """The offsets of the next so many items, which have to be messages."""
    return [(await take(client, Message)).offset for _ in range(count)]


async def ending(client: BaseClient) -> ClientError | None:
    """Wait for the end of the iteration, passing over items; the error it ended with."""
    with trio.fail_after(PATIENCE):
        try:
            async for _ in client:
                pass
        except ClientError as error:
            return error
        return None


# Where the first connection begins.
START = {"odin.trades": {"0": 4, "1": -1}}


async def begin(server: FakeServer) -> Visit:
    """The first connection, subscribed."""
    attempt = await server.attempt()
    await attempt.accept(START)
    return attempt
