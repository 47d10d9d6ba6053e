"""The connections of a load process: connecting, upgrading, subscribing, and their ends.

Compiled code reads the messages (odin_ws.bench.frame_reader); this module handles the events that
occur once per connection.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from collections import Counter, deque
from enum import IntEnum
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import orjson

from odin_ws.bench.event_reader import parse_events
from odin_ws.bench.frame_reader import CLOSE, PING, TEXT, parse
from odin_ws.bench.messages import LoadPlan
from odin_ws.bench.socket_drain import NOBODY, Ready
from odin_ws.bench.subscriptions import Subscription
from odin_ws.bench.tables import TORN, Bytes, Tables
from odin_ws.bench.workload import Transport

__all__ = ["Connections", "Phase"]

# RFC 6455, 5.2. Clients mask their frames.
_PONG: Final = 10
_FIN: Final = 0x80
_MASKED: Final = 0x80
_SHORT: Final = 125

# Labels for ends without a close frame and for invalid frames.
_NO_CLOSE: Final = 1006

# Seconds before a new attempt after a rejection or failure; similar to `Retry-After`.
_RETRY_SECONDS: Final = 1.0

_RECV_BYTES: Final = 65536

# No context takeover, which odin-ws always selects: each message can be inflated by itself.
_OFFER: Final = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
    "client_no_context_takeover\r\n"
)

# Linux chooses the port when the socket connects: the port may be in TIME_WAIT, or in use with
# another peer (linux/in.h; not in the socket module).
_IP_BIND_ADDRESS_NO_PORT: Final = 24

# One local address has ports for about 28,000 connections to the same peer.
_PER_ADDRESS: Final = 20_000


class Phase(IntEnum):
    """The progress of a connection."""

    ABSENT = 0
    CONNECTING = 1
    UPGRADING = 2
    OPEN = 3
    SUBSCRIBED = 4
    ENDED = 5


class Connections:
    """All connections of this process, by number from 0 on."""

    def __init__(
        self,
        plan: LoadPlan,
        subscriptions: list[Subscription],
        epoll: select.epoll,
        ready: Ready,
        tables: Tables,
    ) -> None:
        self._plan = plan
        self._subscriptions = subscriptions
        self._epoll = epoll
        self._ready = ready
        self._tables = tables
        self._post = tables.other_frames
        self._events = plan.transport == Transport.EVENTS
        self._sockets: list[socket.socket | None] = [None] * plan.count
        self._number: dict[int, int] = {}
        self._pending: deque[int] = deque()
        self._again: list[tuple[float, int]] = []
        self._begun = 0.0
        self._started = 0
        self._in_flight = 0
        # Different for each run, so that no port is in TIME_WAIT from the previous run.
        random = Random()  # noqa: S311 -- an address, not a secret
        self._source = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self._returning: set[int] = set()
        self.phases = np.zeros(plan.count, np.int64)
        self.closes: Counter[str] = Counter()
        self.rejected_connections: Counter[str] = Counter()
        self.rejected = 0
        self.subscribed_at = 0.0

    @property
    def subscribed(self) -> int:
        """The number of connections with a subscription_ack."""
        return int((self.phases == Phase.SUBSCRIBED).sum())

    def connect(self, numbers: range) -> None:
        """Connect these connections at the rate of the plan."""
        self._pending.extend(numbers)
        self._begun, self._started = time.monotonic(), 0

    def start_due(self) -> float:
        """Start due connections; returns the seconds until the next one is due."""
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            self._pending.append(heapq.heappop(self._again)[1])
        while self._pending and self._in_flight < self._plan.in_flight:
            wait = self._begun + self._started / self._plan.connect_rate - now
            if wait > 0:
                return wait
            self._started += 1
            self._start(self._pending.popleft())
        return self._again[0][0] - now if self._again else 1.0

    def drop(self, numbers: range) -> None:
        """Cut off these connections at once, as a lost network does; reconnect them to resume."""
        self.cut_off(numbers)
        self.reconnect()

    def reconnect(self) -> None:
        """Reconnect the connections that were cut off, to resume."""
        self.connect(range(0))
        self._pending.extend(sorted(self._returning))

    def cut_off(self, numbers: range) -> None:
        """Cut off these connections at once, as a lost network does."""
        for number in numbers:
            if self.phases[number] != Phase.SUBSCRIBED:
                continue
            sock = self._sockets[number]
            assert sock is not None
            # A reset, so that the server notices at once.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close(number, Phase.ABSENT)
            self._tables.seq[number] = 0
            self._tables.rest_length[number] = 0
            self._returning.add(number)

    def stall(self, numbers: range) -> None:
        """Stop reading from these connections."""
        for number in numbers:
            sock = self._sockets[number]
            if sock is not None:
                self._epoll.unregister(sock)

    def handle(self, descriptor: int) -> None:
        """Take the next step of the connection that owns a descriptor."""
        number = self._number.get(descriptor)
        if number is None:
            return  # the connection has ended meanwhile
        phase = self.phases[number]
        try:
            if phase == Phase.CONNECTING:
                self._on_connected(number)
            elif phase == Phase.UPGRADING:
                self._on_upgraded(number)
            elif self._socket(number).recv(1) == b"":
                self._on_ended(number)
        except BlockingIOError:
            pass  # no bytes to read
        except OSError as error:
            self._on_failed(number, type(error).__name__)

    def handle_other_frames(self) -> None:
        """Handle the frames that are no messages."""
        text, letters = self._post.text, self._post.letters[: self._post.used[1]].tolist()
        self._post.used[:] = 0
        for number, opcode, begin, end in letters:
            if self._sockets[number] is None:
                continue
            payload = text[begin:end].tobytes()
            if opcode == TEXT:
                self._on_response(number, orjson.loads(payload))
            elif opcode == PING:
                self._send(number, _PONG, payload)
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2]) if payload else 1005
                self._forget(number, f"{code} {payload[2:].decode()}".strip())
            elif opcode == TORN:
                self._forget(number, "not a frame")

    # ---- one connection

    def _start(self, number: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 -- its signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._plan.host.startswith("127."):
            sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"{self._source}.{1 + number // _PER_ADDRESS}", 0))
        self._sockets[number] = sock
        self._number[sock.fileno()] = number
        self._in_flight += 1
        self.phases[number] = Phase.CONNECTING
        self._epoll.register(sock, select.EPOLLOUT)
        sock.connect_ex((self._plan.host, self._plan.port))

    def _on_connected(self, number: int) -> None:
        sock = self._socket(number)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "not connected")
        sock.send(self._request(number).encode())
        self.phases[number] = Phase.UPGRADING
        self._epoll.modify(sock, select.EPOLLIN)

    def _request(self, number: int) -> str:
        plan = self._plan
        host = f"Host: {plan.host}:{plan.port}"
        if self._events:
            query: dict[str, str] = {
                "channels": ",".join(self._subscriptions[number].names),
                "frames": plan.frames,
            }
            if (where := plan.workload.filter_of(plan.first + number)) is not None:
                query["where"] = orjson.dumps(where).decode()
            return f"GET /sse?{urlencode(query)} HTTP/1.1\r\n{host}\r\n\r\n"
        return (
            f"GET {plan.path} HTTP/1.1\r\n{host}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{_OFFER * plan.deflate}\r\n"
        )

    def _on_upgraded(self, number: int) -> None:
        sock = self._socket(number)
        # A response head has some hundred bytes and arrives in one segment.
        read = sock.recv(_RECV_BYTES)
        head, separator, more = read.partition(b"\r\n\r\n")
        status = head[9:12].decode(errors="replace")
        if not separator or status != ("200" if self._events else "101"):
            self._on_failed(number, status if separator else "no response")
            return
        self._in_flight -= 1
        self.phases[number] = Phase.OPEN
        self._ready.owner[sock.fileno()] = number
        if more:
            # Writable like the array of `drain`: for another type numba would compile again.
            self._begin(number, np.frombuffer(bytearray(more), np.uint8))
        if self._events:
            return
        if self._plan.subscribe:
            self._send(number, TEXT, self._subscription(number))
        else:
            self._on_subscribed(number)

    def _begin(self, number: int, more: Bytes) -> None:
        """Read the bytes that arrived after the response's head."""
        parse_all = parse_events if self._events else parse
        taken = parse_all(more, len(more), number, time.time_ns() // 1000, self._tables)
        rest = more[taken:]
        self._tables.rest[number, : len(rest)] = rest
        self._tables.rest_length[number] = len(rest)

    def _subscription(self, number: int) -> bytes:
        plan = self._plan
        data: dict[str, Any] = {"channels": self._subscriptions[number].names}
        # A server of another version may not support `frames`.
        if plan.frames != "single":
            data["frames"] = plan.frames
        if (where := plan.workload.filter_of(plan.first + number)) is not None:
            data["where"] = where
        if number not in self._returning:
            return orjson.dumps(
                {"type": "subscribe", "data": {**data, "positions": plan.positions}}
            )
        rows = self._tables.offsets[number].reshape(-1, plan.partitions).tolist()
        data["positions"] = {
            topic: {str(partition): offset for partition, offset in enumerate(row)}
            for topic, row in zip(plan.names.topics, rows, strict=True)
        }
        return orjson.dumps({"type": "resume", "data": data})

    def _on_response(self, number: int, response: dict[str, Any]) -> None:
        if response["type"] in {"subscription_ack", "resume_ack"}:
            self.rejected += bool(response["rejected"]) or response.get("recovered") is False
            for topic, positions in response.get("positions", {}).items():
                first = self._plan.names.topics.index(topic) * self._plan.partitions
                for partition, offset in positions.items():
                    self._tables.offsets[number, first + int(partition)] = offset
            self._tables.state[number] = 0
            self._on_subscribed(number)
        elif response["type"] == "error":
            self.rejected += 1
        elif response["type"] == "close":
            self._forget(number, f"{response['code']} {response['reason']}")

    def _on_subscribed(self, number: int) -> None:
        self.phases[number] = Phase.SUBSCRIBED
        self._returning.discard(number)
        self.subscribed_at = time.monotonic()

    def _send(self, number: int, opcode: int, payload: bytes) -> None:
        # A zero key leaves the payload unchanged; masking matters only for proxies.
        length = len(payload)
        if length <= _SHORT:
            head = struct.pack("!BB", _FIN | opcode, _MASKED | length)
        else:
            head = struct.pack("!BBH", _FIN | opcode, _MASKED | (_SHORT + 1), length)
        self._socket(number).send(head + bytes(4) + payload)

    def _on_failed(self, number: int, reason: str) -> None:
        """Retry later if the connection was not open yet; otherwise count the end."""
        if self.phases[number] >= Phase.OPEN:
            self._forget(number, f"{_NO_CLOSE} {reason}")
            return
        self.rejected_connections[reason] += 1
        self._in_flight -= 1
        self._close(number, Phase.ABSENT)
        heapq.heappush(self._again, (time.monotonic() + _RETRY_SECONDS, number))

    def _on_ended(self, number: int) -> None:
        self._on_failed(number, "ended")

    def _forget(self, number: int, reason: str) -> None:
        self.closes[reason] += 1
        self._close(number, Phase.ENDED)

    def _close(self, number: int, phase: Phase) -> None:
        sock = self._socket(number)
        self._ready.owner[sock.fileno()] = NOBODY
        del self._number[sock.fileno()]
        sock.close()
        self._sockets[number] = None
        self.phases[number] = phase

    def _socket(self, number: int) -> socket.socket:
        sock = self._sockets[number]
        assert sock is not None
        return sock
