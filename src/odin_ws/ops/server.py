"""The HTTP server of the ops port, with limits on connections, time and rate.

The server bounds the number of connections, the time of each, and the rate of accepts. A connection
serves one request.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import attrs
import structlog
import trio
from starlette.types import ASGIApp

from odin_ws.ops.accept_rate import AcceptRate
from odin_ws.ops.http_exchange import BadRequest, HttpExchange, StreamRules
from odin_ws.ops.over_rate import Probe, read_probe, respond_live, respond_too_many
from odin_ws.ops.stats import OpsStats
from odin_ws.token_bucket import TokenBucket

__all__ = ["OpsLimits", "OpsServer", "serve_ops"]

log = structlog.get_logger("odin_ws.ops")

# Seconds for requests in flight when the service ends.
_STOP_SECONDS: Final = 1.0

# Connections accepted per pass of the event loop: a pass of a busy loop takes milliseconds.
_AT_ONCE: Final = 32

# Beyond the rate: seconds for the first bytes of a request, and for the rest of the request line.
_OVER_RATE_SECONDS: Final = 2.0
_LINE_SECONDS: Final = 0.05

# If all slots over the rate are taken by connections younger than 0.25 s, the server accepts no
# connection, and checks again every 20 ms.
_REQUEST_SECONDS: Final = 0.25
_FULL_SECONDS: Final = 0.02

# If all slots are taken by connections younger than 1 s, a new connection counts as over the rate.
_SLOT_SECONDS: Final = 1.0

# Out of descriptors or buffers: retrying at once would only spin.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS: Final = 0.25

# Linux: milliseconds without an acknowledgement after which the kernel closes a connection.
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)

# SO_LINGER: at close the kernel drops unsent bytes and resets the connection.
_ABORT: Final = struct.pack("ii", 1, 0)


@attrs.frozen
class OpsLimits:
    """The limits for all clients of an ops port together.

    The rate bounds the CPU time: a request takes half a millisecond, so 200 requests per second
    take a tenth of a core. Probes, a scrape and an operator send a few requests per second.
    """

    connections: int = 64
    """Maximum number of open connections. A further connection closes the oldest connection of the
    address with most connections."""
    seconds: float = 10.0
    """Timeout in seconds from accept to the last byte of the response; for a stream to its first
    byte, and then for each part."""
    streams: int = 16
    """Maximum number of streams. A further stream ends the oldest stream of the address with most
    streams, so that forgotten consoles do not lock out an operator."""
    rate: float = 200.0
    """Connections fully served per second; connections beyond the rate get a response only to
    probes."""
    rate_per_address: float = 100.0
    """Connections fully served per second and address: a flood from one address leaves half of the
    rate to others."""
    burst: float = 32.0
    """Connections served at once, of all addresses and of each: half of the slots, so that a burst
    does not close connections whose request is about to arrive."""
    accepts: float = 1000.0
    """Connections accepted per second; others wait in the kernel's queue. Accepting a connection
    and sending a short response takes 0.05 ms."""
    ready_rate: float = 20.0
    """Responses per second to readiness probes beyond the rate; the app builds these responses."""
    over_rate: int = 128
    """Maximum number of connections beyond the rate whose request has not arrived. A further
    connection closes the oldest of the address with most of these connections; it waits in the
    kernel's queue while all of them are younger than 0.25 s."""
    queue: int = 512
    """Length of the kernel's queue of connections to accept; clients beyond it retry after 1 s. The
    server empties a full queue in 0.5 s, which bounds the delay of a probe. The queue holds 1 s
    of a flood of 500 connections per second while the process does not run."""


class OpsServer:
    """Serves an ASGI app to one request per connection, within limits."""

    def __init__(self, app: ASGIApp, stats: OpsStats, limits: OpsLimits | None = None) -> None:
        self._app = app
        self._stats = stats
        self._limits = limits or OpsLimits()
        # The client address of each open connection, in the order of accepts.
        self._open: dict[trio.CancelScope, str] = {}
        # The accept time of each open connection, by Trio's clock.
        self._opened: dict[trio.CancelScope, float] = {}
        # The client address of each connection with a stream, oldest stream first.
        self._streams: dict[trio.CancelScope, str] = {}
        # The client address of each connection beyond the rate, in the order of accepts.
        self._over_rate: dict[trio.CancelScope, str] = {}
        # The accept time of each connection beyond the rate, by Trio's clock.
        self._since: dict[trio.CancelScope, float] = {}
        now, limits = trio.current_time(), self._limits
        self._rate = AcceptRate(limits.rate, limits.rate_per_address, limits.burst)
        self._ready = TokenBucket(limits.ready_rate, limits.ready_rate, now)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def accept(self, listening: socket.socket, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled; each is served in a task of `nursery`."""
        limits = self._limits
        # Only the supervisor sends requests to a worker's Unix socket: `accepts` is not needed.
        trusted = listening.family is socket.AF_UNIX
        rate = limits.rate if trusted else limits.accepts
        bucket = TokenBucket(rate, limits.burst, trio.current_time())
        exhausted = False
        while True:
            await trio.lowlevel.wait_readable(listening)
            now = trio.current_time()
            available = bucket.available(now)
            if not available or self._is_full(now):
                await trio.sleep(max(1 / rate, _FULL_SECONDS * (available > 0)))
                continue
            try:
                for accepted, peer in _accept_some(listening, min(available, _AT_ONCE)):
                    exhausted = False
                    bucket.spend(1)
                    accepted.setblocking(False)  # noqa: FBT003 -- the standard library's signature
                    if trusted or (self._has_free_slot(now) and self._rate.admit(peer, now)):
                        sock = trio.socket.from_stdlib_socket(accepted)
                        nursery.start_soon(self._serve_socket, sock, peer)
                    else:
                        self._respond_over_rate(accepted, peer, nursery)
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not exhausted:
                    log.error(  # noqa: TRY400 -- the reason is enough
                        "ops port cannot accept: raise the limit of descriptors or memory",
                        reason=error.strerror,
                    )
                exhausted = True
                await trio.sleep(_EXHAUSTED_SECONDS)

    def _has_free_slot(self, now: float) -> bool:
        """Return whether a new connection can be fully served.

        False if all slots are taken and the oldest connection is younger than `_SLOT_SECONDS`:
        the new connection then counts as over the rate, and probes get a response without a slot.
        """
        if len(self._open) < self._limits.connections:
            return True
        return now - next(iter(self._opened.values())) >= _SLOT_SECONDS

    def _is_full(self, now: float) -> bool:
        """Return whether a further connection over the rate has to wait in the kernel's queue.

        True if all slots over the rate are taken and the oldest connection is younger than
        `_REQUEST_SECONDS`.
        """
        if len(self._over_rate) < self._limits.over_rate:
            return False
        return now - next(iter(self._since.values())) < _REQUEST_SECONDS

    def _respond_over_rate(self, accepted: socket.socket, peer: str, nursery: trio.Nursery) -> None:
        """Respond to a connection beyond the rate; without a request start a task that waits."""
        with contextlib.suppress(OSError):  # the connection is gone
            found = read_probe(accepted)
            if found is None:
                nursery.start_soon(self._wait_over_rate, accepted, peer, nursery)
                return
            probe, head = found
            if probe is Probe.LIVE:
                respond_live(accepted, head=head)
            elif probe is Probe.READY and self._ready.available(trio.current_time()):
                self._ready.spend(1)
                sock = trio.socket.from_stdlib_socket(accepted)
                nursery.start_soon(self._serve_socket, sock, peer)
                return
            else:
                self._stats.rejected["rate"] += 1
                respond_too_many(accepted)
        accepted.close()

    async def _wait_over_rate(
        self, accepted: socket.socket, peer: str, nursery: trio.Nursery
    ) -> None:
        """Wait up to `_OVER_RATE_SECONDS` for the request of a connection beyond the rate."""
        there = False
        with contextlib.ExitStack() as stack:
            stack.callback(accepted.close)
            with self._acquire_slot_over_rate(peer), trio.move_on_after(_OVER_RATE_SECONDS):
                await trio.lowlevel.wait_readable(accepted)
                with contextlib.suppress(OSError):  # the connection is gone
                    if read_probe(accepted) is None:
                        # Waits once for the rest of a request line.
                        await trio.sleep(_LINE_SECONDS)
                    there = read_probe(accepted) is not None
            if there:
                stack.pop_all()
                self._respond_over_rate(accepted, peer, nursery)
            else:
                self._stats.rejected["rate"] += 1

    async def _serve_socket(self, accepted: trio.socket.SocketType, peer: str) -> None:
        async with trio.SocketStream(accepted) as stream:
            try:
                server = _address(accepted.getsockname())
                # Without the option the kernel retransmits to a vanished client for many minutes.
                if _USER_TIMEOUT is not None and accepted.family != socket.AF_UNIX:
                    accepted.setsockopt(
                        socket.IPPROTO_TCP, _USER_TIMEOUT, round(self._limits.seconds * 1000)
                    )
            except OSError:  # the connection is already gone
                return
            if not await self.serve(stream, peer, server):
                # The client may never read the bytes in the kernel's buffer.
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)

    async def serve(
        self,
        stream: trio.abc.HalfCloseableStream,
        peer: str,
        server: tuple[str, int | None] | None = None,
    ) -> bool:
        """Serve the request of a connection; returns False after a timeout or if it lost its slot.

        Args:
            stream: the connection, which the caller closes.
            peer: the client's address.
            server: the connection's local address.
        """
        with (
            self._acquire_slot(peer) as slot,
            trio.move_on_after(self._limits.seconds) as time_limit,
        ):
            begin_stream = partial(self._begin_stream, slot, peer)
            rules = StreamRules(time_limit, self._limits.seconds, begin_stream)
            await self._exchange(HttpExchange(stream, self._app, server, rules))
        if time_limit.cancelled_caught:
            self._stats.rejected["timeout"] += 1
        return not (slot.cancelled_caught or time_limit.cancelled_caught)

    async def _exchange(self, exchange: HttpExchange) -> None:
        """Run an exchange; an error in it ends only its connection."""
        try:
            await exchange.run()
        except BadRequest as problem:
            self._stats.rejected["bad_request"] += 1
            log.debug("bad request", problem=str(problem))
        except trio.BrokenResourceError:
            log.debug("ops connection lost before the response")
        except Exception:  # an error in one page must not end other connections
            self._stats.rejected["error"] += 1
            log.exception("ops request failed")

    @contextmanager
    def _acquire_slot(self, peer: str) -> Iterator[trio.CancelScope]:
        """Hold a slot during the block, which is cancelled if the slot is lost.

        If all slots are taken, the address with most connections loses its oldest connection.
        Probes finish within milliseconds, so silent connections are the oldest, and many
        connections from one address do not displace those of others.
        """
        if len(self._open) >= self._limits.connections:
            _end_oldest(self._open)
            self._stats.rejected["max_connections"] += 1
        with trio.CancelScope() as scope:
            self._open[scope], self._opened[scope] = peer, trio.current_time()
            try:
                yield scope
            finally:
                self._open.pop(scope, None)
                del self._opened[scope]
                self._streams.pop(scope, None)

    @contextmanager
    def _acquire_slot_over_rate(self, peer: str) -> Iterator[None]:
        """Hold a slot among the connections beyond the rate, like `_acquire_slot`."""
        if len(self._over_rate) >= self._limits.over_rate:
            _end_oldest(self._over_rate)
        with trio.CancelScope() as scope:
            self._over_rate[scope], self._since[scope] = peer, trio.current_time()
            try:
                yield
            finally:
                self._over_rate.pop(scope, None)
                del self._since[scope]

    def _begin_stream(self, slot: trio.CancelScope, peer: str) -> None:
        """Count a connection among the streams."""
        if len(self._streams) >= self._limits.streams:
            _end_oldest(self._streams)
            self._stats.rejected["max_streams"] += 1
        self._streams[slot] = peer

    def end_streams(self) -> None:
        """End all streams, which have no end of their own."""
        for slot in self._streams:
            slot.cancel()


def _accept_some(listening: socket.socket, maximum: int) -> Iterator[tuple[socket.socket, str]]:
    """Accept waiting connections; returns each with its address. Raises OSError."""
    for _ in range(maximum):
        try:
            accepted, name = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            continue
        yield accepted, _address(name)[0]


def _end_oldest(slots: dict[trio.CancelScope, str]) -> None:
    """Cancel the oldest connection of the address with most connections."""
    counts = Counter(slots.values())
    crowded = max(counts, key=counts.__getitem__)
    oldest = next(scope for scope, address in slots.items() if address == crowded)
    del slots[oldest]
    oldest.cancel()


def _address(name: object) -> tuple[str, int | None]:
    """Return host and port of a socket's name; a Unix socket has neither."""
    return (name[0], name[1]) if isinstance(name, tuple) else ("", None)


@asynccontextmanager
async def serve_ops(
    app: ASGIApp, listening: socket.socket, stats: OpsStats, limits: OpsLimits | None = None
) -> AsyncIterator[None]:
    """Serve an app on a listening socket for the length of the block."""
    listening.setblocking(False)  # noqa: FBT003 -- the standard library's signature
    limits = limits or OpsLimits()
    # The socket already listens, with the queue length of the subscribers' port.
    listening.listen(limits.queue)
    server = OpsServer(app, stats, limits)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(server.accept, listening, connections)
            yield
            accepting.cancel_scope.cancel()
        server.end_streams()
        connections.cancel_scope.deadline = trio.current_time() + _STOP_SECONDS
