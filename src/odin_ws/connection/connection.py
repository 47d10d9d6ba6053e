"""One connection from the upgrade to its end: frames in, send queue out, close handshake."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from typing import Final

import trio

from odin_ws.auth.grants import Grant
from odin_ws.connection.client_input import CommandHandler, Reader
from odin_ws.connection.disconnect_reasons import DisconnectReason, disconnect_reason_for
from odin_ws.connection.framing import WEBSOCKET, Framing
from odin_ws.connection.send_queue import SendQueue
from odin_ws.hub import Hub, Subscriber
from odin_ws.listener.transport import Transport
from odin_ws.protocol.frames import close_frame, pong_frame
from odin_ws.protocol.message_reader import Fault, Incoming, PeerClose, Ping, Pong
from odin_ws.protocol.wire_format import WireFormat

__all__ = ["CLOSE_SECONDS", "Connection", "ConnectionState"]

# Time for a peer to read what is queued and to send its close: a round trip and a margin.
CLOSE_SECONDS: Final = 5.0

# After a close that the peer may not have read yet, its bytes are discarded for this time: closing
# a socket with unread bytes resets it, and the reset overtakes the close frame.
_LINGER_SECONDS: Final = 1.0

# Read size. A command fits into one read; longer messages take several.
_READ_BYTES: Final = 4096

# Limit of commands, pings or pongs executed in a row: all of one read took over 4 ms.
_AT_ONCE: Final = 16

# Read size for discarded bytes: a flood in few reads.
_WASTE_BYTES: Final = 64 << 10


class ConnectionState(IntEnum):
    """The states of a connection, in order."""

    HANDSHAKE = 0
    """Admitted; the response to its request is not written yet."""
    OPEN = 1
    """Messages are sent to it, and its commands are executed."""
    CLOSING = 2
    """The disconnect reason is set: queued messages and the close frame are sent."""
    CLOSED = 3
    """Nothing is sent or read any more."""


class Connection:
    """A WebSocket or an event stream.

    The hub writes the connection's pending messages, and is notified whenever the send queue
    becomes empty.
    """

    __slots__ = (
        "_drained",
        "_hub",
        "_is_executing",
        "_message_seconds",
        "_nursery",
        "_task",
        "_transport",
        "bytes_received",
        "closing",
        "framing",
        "grant",
        "last_received_at",
        "opened_at",
        "peer",
        "send_queue",
        "state",
        "subscriber",
    )

    def __init__(  # noqa: PLR0913 -- its parts
        self,
        transport: Transport,
        peer: str,
        form: WireFormat,
        grant: Grant,
        *,
        send_queue_bytes: int,
        grace: float,
        message_seconds: float,
        hub: Hub,
        framing: Framing = WEBSOCKET,
    ) -> None:
        self.peer = peer
        self.framing = framing
        self.grant = grant
        """What the client may read, until a new JWT replaces the grant."""
        self.state = ConnectionState.HANDSHAKE
        self.closing: DisconnectReason | None = None
        """The disconnect reason, set together with the state."""
        self.opened_at = self.last_received_at = trio.current_time()
        self.bytes_received = 0
        self.send_queue = SendQueue(
            transport,
            limit=send_queue_bytes,
            grace=grace,
            wake=self._start_draining,
            slow=self.close_as_slow,
            idle=self._idle,
        )
        self.subscriber = Subscriber(self.send_queue.write, form)
        self._hub = hub
        self._transport = transport
        self._message_seconds = message_seconds
        # True if what the client sent is handled: then no further bytes of it are read.
        self._is_executing = False
        # Set when the send queue is empty; created by the waiting task.
        self._drained: trio.Event | None = None
        self._nursery: trio.Nursery | None = None
        self._task: trio.CancelScope | None = None

    # ---- called by keepalive, drain, and the hub through the send queue

    def ping(self) -> None:
        """Send a ping."""
        if self.is_open:
            sent = self.send_queue.bytes_sent
            # A command may wait for its turns for longer than a client may be silent.
            if self._is_executing or self.framing.is_received(sent, self._transport.unacknowledged):
                self.last_received_at = trio.current_time()
            self.send_queue.write(self.framing.ping)

    @property
    def is_open(self) -> bool:
        """True if messages can be sent to it."""
        return self.state is ConnectionState.OPEN

    @property
    def is_caught_up(self) -> bool:
        """True if all messages up to the hub's positions were written to it, or are being."""
        conflation = self.subscriber.conflation
        holds_back = conflation is not None and conflation.holding
        return bool(self.subscriber.patterns) and not (self.replaying or holds_back)

    def settle(self) -> None:
        """Write all pending messages, also those that a rate delays."""
        self._hub.settle(self.subscriber)

    def send_notice(self, payload: bytes) -> None:
        """Send a notice or a response after all pending messages: clients rely on that order."""
        if self.state is ConnectionState.OPEN:
            self._hub.flush(self.subscriber)
            self.send_queue.write(self.framing.notice(payload))

    def close(self, reason: DisconnectReason) -> None:
        """Start to close; the first reason counts. Never waits: the connection's task closes."""
        if self.state is ConnectionState.OPEN:
            last = self.framing.close(reason)
            self._begin_to_close(reason, last, flush=reason.value.flush)
        elif self.state is ConnectionState.HANDSHAKE:
            # No frame may precede the handshake response.
            self._enter(ConnectionState.CLOSING, reason)

    def abandon(self) -> None:
        """Drop the send queue and its callbacks, because the connection is over."""
        # Cancelled before it was closed, because the process stops: the last chance to send.
        self.close(DisconnectReason.DRAINING)
        self._enter(ConnectionState.CLOSED)
        self.send_queue.abandon()

    def _begin_to_close(self, reason: DisconnectReason, last: bytes, *, flush: bool) -> None:
        self._enter(ConnectionState.CLOSING, reason)
        if self._task is not None:
            self._task.cancel()
        self.send_queue.finish(last, flush=flush)
        # Deadline for the peer to read the queue and to send its close.
        if self._nursery is not None:
            self._nursery.cancel_scope.deadline = trio.current_time() + CLOSE_SECONDS

    def _enter(self, state: ConnectionState, reason: DisconnectReason | None = None) -> None:
        assert state > self.state, f"{state.name} after {self.state.name}"
        assert (reason is None) is (state is not ConnectionState.CLOSING), state
        self.state = state
        self.closing = reason or self.closing

    # ---- called by the session and its replays

    async def drained(self) -> None:
        """Wait until the send queue is empty."""
        await trio.lowlevel.checkpoint()
        while not self.send_queue.empty:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    @property
    def written(self) -> int:
        """The bytes written to the client so far, queued ones included."""
        return self.send_queue.bytes_sent + self.send_queue.backlog

    def acknowledged(self) -> int:
        """Return how many of these bytes the client's kernel has acknowledged."""
        return self.send_queue.bytes_sent - self._transport.unacknowledged()

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task, one at a time; it is cancelled when the connection begins to close."""
        assert not self.replaying, "one task at a time"
        if self._nursery is not None and self.is_open:
            self._task = trio.CancelScope()
            self._nursery.start_soon(self._run_task, task, self._task)

    @property
    def replaying(self) -> bool:
        """True if a replay runs or waits to run."""
        return self._task is not None

    async def _run_task(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        with scope:
            await task()
        self._task = None

    def _idle(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        self._hub.release(self.subscriber)

    def close_as_slow(self) -> None:
        """Close the connection as slow."""
        self.close(DisconnectReason.SLOW)

    def _start_draining(self) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self.send_queue.drain)

    def _received(self, size: int) -> None:
        self.last_received_at = trio.current_time()
        self.bytes_received += size

    # ---- the connection's own task

    async def run(
        self,
        response: bytes,
        session: CommandHandler,
        reader: Reader,
        rest: bytes,
        notices: Iterable[bytes] = (),
    ) -> None:
        """Send the handshake response, then serve until the end; `closing` has the reason.

        `rest`: bytes that arrived with the request after its end. `notices`: sent first.
        """
        is_closing_answered = False
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.send_queue.write(response)
                del response
                self._enter(ConnectionState.OPEN)
                for payload in notices:
                    self.send_notice(payload)
                if rest:
                    self._received(len(rest))
                is_closing_answered = await self._listen(session, reader, rest)
        finally:
            self._nursery = None
        scope = nursery.cancel_scope
        if not (is_closing_answered or scope.cancelled_caught):
            await self._linger(scope.deadline)

    async def _listen(self, session: CommandHandler, reader: Reader, data: bytes) -> bool:
        """Execute the client's messages until no further ones matter.

        Returns whether the client is done: it has closed, or the connection is lost.
        """
        begun: float | None = None
        more: bytes | None
        item: Incoming | None
        while True:
            count = 0
            if data or reader.has_items:
                self._is_executing = True
                session.begin_time_slice()
                for count, item in enumerate(reader.receive(data), 1):
                    begun = None if isinstance(item, str | bytes) else begun
                    is_closing_answered = await self._execute(item, session)
                    if is_closing_answered is not None:
                        return is_closing_answered
                    if not count % _AT_ONCE:
                        await trio.lowlevel.checkpoint()
                self._is_executing = False
            # The bytes begin a frame without completing it, even a frame of two bytes.
            unfinished = reader.unfinished or (data and not count)
            begun = _at(begun) if unfinished else None
            end = self.framing.end_of_input
            # Silent clients keep no message.
            data, more, item = b"", None, None
            try:
                if begun is None:
                    # Inline instead of in a function: its frame would stay for as long as the
                    # client is silent.
                    more = await self._transport.receive_some(_READ_BYTES)
                else:
                    more = await self._receive_until(begun + self._message_seconds)
            except trio.BrokenResourceError:
                more, end = b"", DisconnectReason.LOST
            if more is None:
                return False
            data = more
            if not data:
                self._end_by_client(end, b"")
                return True
            self._received(len(data))

    async def _execute(self, item: Incoming, session: CommandHandler) -> bool | None:
        """Handle an item; returns whether the peer has closed, None to continue."""
        match item:
            case str() | bytes():
                # After our close only the peer's close matters.
                if self.is_open:
                    await session.receive(item)
                    return self._stop_reading()
            case Ping():
                if not session.control():
                    return self._stop_reading()
                self.send_queue.write(pong_frame(item.payload))
            case Pong():
                if not session.control():
                    return self._stop_reading()
            case PeerClose():
                self._end_by_client(DisconnectReason.CLIENT, close_frame(item.code, item.reason))
                return True
            case Fault():
                self.close(disconnect_reason_for(item))
                return False
        return None

    def _stop_reading(self) -> bool | None:
        """Stop reading after a session has closed: reading a flood costs more than sending it.

        Returns as `_execute`.
        """
        return None if self.is_open else False

    async def _receive_until(self, deadline: float) -> bytes | None:
        """Return the next bytes; None, after closing, if none arrive in time."""
        with trio.move_on_at(deadline):
            return await self._transport.receive_some(_READ_BYTES)
        self.close(DisconnectReason.UNFINISHED)
        return None

    def _end_by_client(self, reason: DisconnectReason, last: bytes) -> None:
        """End by the client: send queued messages, then `last`."""
        if self.is_open:
            self._begin_to_close(reason, last, flush=True)

    async def fail(self) -> None:
        """Close after an internal error, so that the client gets 1011; `run` has ended."""
        self.close(DisconnectReason.INTERNAL)
        with trio.move_on_after(_LINGER_SECONDS):
            await self.send_queue.drain()
            await self._linger()

    async def _linger(self, deadline: float = math.inf) -> None:
        """Wait for the peer to read the close frame, until `deadline` at most."""
        self._transport.send_eof()
        deadline = min(deadline, trio.current_time() + _LINGER_SECONDS)
        with trio.move_on_at(deadline), contextlib.suppress(trio.BrokenResourceError):
            while await self._transport.receive_some(_WASTE_BYTES):
                pass


def _at(time: float | None) -> float:
    """Return a time, or now if it is None."""
    return trio.current_time() if time is None else time
