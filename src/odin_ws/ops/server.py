"""The HTTP server of the ops port, with limits on connections, time and rate.

Connections, their time, and the rate at which they are accepted are bounded, and a connection
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
from odin_ws.ops.over_rate import Probe, answer_live, answer_too_many, read_probe
from odin_ws.ops.stats import OpsStats
from odin_ws.token_bucket import TokenBucket

__all__ = ["OpsLimits", "OpsServer", "serve_ops"]

log = structlog.get_logger("odin_ws.ops")

# At the end of the service a request in flight gets this long.
_FAREWELL_SECONDS: Final = 1.0

# Connections accepted per pass of the event loop: a pass of a busy loop takes milliseconds.
_AT_ONCE: Final = 32

# Beyond the rate a probe gets this long to say what it is.
_OVER_RATE_SECONDS: Final = 2.0
_LINE_SECONDS: Final = 0.05

# It keeps its place for so long, whoever comes; accepting waits, and looks again after a moment.
_REQUEST_SECONDS: Final = 0.25
_CROWDED_SECONDS: Final = 0.02

# A connection that is served in full keeps its place for so long.
_PLACE_SECONDS: Final = 1.0

# Out of descriptors or buffers: retrying at once would only spin.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS: Final = 0.25

# Linux: after how many milliseconds without an acknowledgement a connection is lost.
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)

# The kernel forgets unsent bytes at close and resets the connection.
_ABORT: Final = struct.pack("ii", 1, 0)


@attrs.frozen
class OpsLimits:
    """What all clients of an ops port have together.

    The rate bounds their CPU: a request takes half a millisecond, so 200 a second are a tenth of a
    core. A probe, a scrape and an operator make a few requests a second.
    """

    connections: int = 64
    """Open connections; one more closes the oldest of the address that has most of them."""
    seconds: float = 10.0
    """Timeout of a connection, from accept to the last byte of the response; of a stream, to its
    first byte, and then for each part."""
    streams: int = 16
    """Limit of streams; one more ends the oldest stream of the address with most of them, so that
    forgotten consoles do not lock out an operator."""
    rate: float = 200.0
    """Connections served per second; of those beyond it only probes are answered."""
    rate_per_address: float = 100.0
    """Those of one address, so that a flood from one leaves the others their part."""
    burst: float = 32.0
    """Connections served at once, of all and of each address: half of the places, so that a burst
    takes no place from a connection whose request is on its way."""
    accepts: float = 1000.0
    """Connections accepted per second; the others wait in the kernel's queue. To look at one and to
    answer it a few bytes takes a twentieth of a millisecond."""
    ready_rate: float = 20.0
    """Readiness probes per second that are answered beyond the rate: they are built by the app."""
    over_rate: int = 128
    """Connections beyond the rate whose request has not come yet; one more closes the oldest of the
    address with most, or waits in the kernel's queue until that has had a quarter of a second."""
    queue: int = 512
    """Connections that wait in the kernel's queue; the kernel lets the others try again, after a
    second. It is emptied in half a second, so a probe is not behind thousands that say nothing; and
    it holds what a flood of 500 a second brings while the process does not run."""


class OpsServer:
    """Serves an ASGI app to one request per connection, within limits."""

    def __init__(self, app: ASGIApp, stats: OpsStats, limits: OpsLimits | None = None) -> None:
        self._app = app
        self._stats = stats
        self._limits = limits or OpsLimits()
        # In the order of their accept, each with the address it came from.
        self._open: dict[trio.CancelScope, str] = {}
        # When each of those came.
        self._opened: dict[trio.CancelScope, float] = {}
        # The connections with a stream, oldest stream first.
        self._streams: dict[trio.CancelScope, str] = {}
        # Connections beyond the rate, as in `_open`.
        self._over_rate: dict[trio.CancelScope, str] = {}
        # When each of those came.
        self._since: dict[trio.CancelScope, float] = {}
        now, limits = trio.current_time(), self._limits
        self._rate = AcceptRate(limits.rate, limits.rate_per_address, limits.burst)
        self._ready = TokenBucket(limits.ready_rate, limits.ready_rate, now)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def accept(self, listening: socket.socket, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled; each is served in a task of `nursery`."""
        limits = self._limits
        # A worker's pages are asked by its supervisor alone, which waits for them.
        trusted = listening.family is socket.AF_UNIX
        rate = limits.rate if trusted else limits.accepts
        bucket = TokenBucket(rate, limits.burst, trio.current_time())
        exhausted = False
        while True:
            await trio.lowlevel.wait_readable(listening)
            now = trio.current_time()
            available = bucket.available(now)
            if not available or self._is_crowded(now):
                await trio.sleep(max(1 / rate, _CROWDED_SECONDS * (available > 0)))
                continue
            try:
                for accepted, peer in _accept_some(listening, min(available, _AT_ONCE)):
                    exhausted = False
                    bucket.spend(1)
                    accepted.setblocking(False)  # noqa: FBT003 -- the standard library's signature
                    if trusted or (self._has_place(now) and self._rate.admit(peer, now)):
                        sock = trio.socket.from_stdlib_socket(accepted)
                        nursery.start_soon(self._serve_socket, sock, peer)
                    else:
                        self._answer_over_rate(accepted, peer, nursery)
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

    def _has_place(self, now: float) -> bool:
        """Whether a newcomer takes no place of a connection that has had no time for its request.

        Beyond that it is over the rate: a probe is answered without a place.
        """
        if len(self._open) < self._limits.connections:
            return True
        return now - next(iter(self._opened.values())) >= _PLACE_SECONDS

    def _is_crowded(self, now: float) -> bool:
        """Whether a newcomer would take the place of one that has had no time for its request."""
        if len(self._over_rate) < self._limits.over_rate:
            return False
        return now - next(iter(self._since.values())) < _REQUEST_SECONDS

    def _answer_over_rate(self, accepted: socket.socket, peer: str, nursery: trio.Nursery) -> None:
        """Answer a connection beyond the rate at once, if its request is there."""
        with contextlib.suppress(OSError):  # it is gone
            found = read_probe(accepted)
            if found is None:
                nursery.start_soon(self._wait_over_rate, accepted, peer, nursery)
                return
            probe, head = found
            if probe is Probe.LIVE:
                answer_live(accepted, head=head)
            elif probe is Probe.READY and self._ready.available(trio.current_time()):
                self._ready.spend(1)
                sock = trio.socket.from_stdlib_socket(accepted)
                nursery.start_soon(self._serve_socket, sock, peer)
                return
            else:
                self._stats.rejected["rate"] += 1
                answer_too_many(accepted)
        accepted.close()

    async def _wait_over_rate(
        self, accepted: socket.socket, peer: str, nursery: trio.Nursery
    ) -> None:
        """Wait a little for the request of a connection beyond the rate."""
        there = False
        with contextlib.ExitStack() as stack:
            stack.callback(accepted.close)
            with self._place_over_rate(peer), trio.move_on_after(_OVER_RATE_SECONDS):
                await trio.lowlevel.wait_readable(accepted)
                with contextlib.suppress(OSError):  # it is gone, which the next look finds too
                    if read_probe(accepted) is None:
                        # The rest of a request line; of a client that sends it in crumbs no more.
                        await trio.sleep(_LINE_SECONDS)
                    there = read_probe(accepted) is not None
            if there:
                stack.pop_all()
                self._answer_over_rate(accepted, peer, nursery)
            else:
                self._stats.rejected["rate"] += 1

    async def _serve_socket(self, accepted: trio.socket.SocketType, peer: str) -> None:
        async with trio.SocketStream(accepted) as stream:
            try:
                server = _address(accepted.getsockname())
                # A client that vanished while it was sent a stream: the kernel would try for long.
                if _USER_TIMEOUT is not None and accepted.family != socket.AF_UNIX:
                    accepted.setsockopt(
                        socket.IPPROTO_TCP, _USER_TIMEOUT, round(self._limits.seconds * 1000)
                    )
            except OSError:  # it is gone already
                return
            if not await self.serve(stream, peer, server):
                # The client may never read what is in the kernel's buffer.
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)

    async def serve(
        self,
        stream: trio.abc.HalfCloseableStream,
        peer: str,
        server: tuple[str, int | None] | None = None,
    ) -> bool:
        """Serve the one request of a connection; returns whether it had the time and place for it.

        Args:
            stream: the connection, which the caller closes.
            peer: the address it came from.
            server: the address it arrived at.
        """
        with self._place(peer) as place, trio.move_on_after(self._limits.seconds) as time_limit:
            begin_stream = partial(self._begin_stream, place, peer)
            rules = StreamRules(time_limit, self._limits.seconds, begin_stream)
            await self._exchange(HttpExchange(stream, self._app, server, rules))
        if time_limit.cancelled_caught:
            self._stats.rejected["timeout"] += 1
        return not (place.cancelled_caught or time_limit.cancelled_caught)

    async def _exchange(self, exchange: HttpExchange) -> None:
        """Run an exchange; an error in it ends only its connection."""
        try:
            await exchange.run()
        except BadRequest as problem:
            self._stats.rejected["bad_request"] += 1
            log.debug("bad request", problem=str(problem))
        except trio.BrokenResourceError:
            log.debug("ops connection lost before the response")
        except Exception:  # the boundary: one page's bug must not end others
            self._stats.rejected["error"] += 1
            log.exception("ops request failed")

    @contextmanager
    def _place(self, peer: str) -> Iterator[trio.CancelScope]:
        """Hold a place during the block, which is cancelled if the place is lost.

        When all places are taken, the address with most connections loses its oldest one: probes
        are served within milliseconds, silent connections get old, and a crowd from one address
        does not displace others.
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
    def _place_over_rate(self, peer: str) -> Iterator[None]:
        """Hold a place among the connections beyond the rate, as `_place` does."""
        if len(self._over_rate) >= self._limits.over_rate:
            _end_oldest(self._over_rate)
        with trio.CancelScope() as scope:
            self._over_rate[scope], self._since[scope] = peer, trio.current_time()
            try:
                yield
            finally:
                self._over_rate.pop(scope, None)
                del self._since[scope]

    def _begin_stream(self, place: trio.CancelScope, peer: str) -> None:
        """Count a connection among the streams."""
        if len(self._streams) >= self._limits.streams:
            _end_oldest(self._streams)
            self._stats.rejected["max_streams"] += 1
        self._streams[place] = peer

    def end_streams(self) -> None:
        """End all streams: unlike a page, a stream has no end to wait for."""
        for place in self._streams:
            place.cancel()


def _accept_some(listening: socket.socket, maximum: int) -> Iterator[tuple[socket.socket, str]]:
    """Accept connections that wait, each with its address. Raises OSError."""
    for _ in range(maximum):
        try:
            accepted, name = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            continue
        yield accepted, _address(name)[0]


def _end_oldest(places: dict[trio.CancelScope, str]) -> None:
    """Take a place from the address that has most of them, from its oldest connection."""
    counts = Counter(places.values())
    crowded = max(counts, key=counts.__getitem__)
    oldest = next(scope for scope, address in places.items() if address == crowded)
    del places[oldest]
    oldest.cancel()


def _address(name: object) -> tuple[str, int | None]:
    """Host and port of a socket's name; a Unix socket has neither."""
    return (name[0], name[1]) if isinstance(name, tuple) else ("", None)


@asynccontextmanager
async def serve_ops(
    app: ASGIApp, listening: socket.socket, stats: OpsStats, limits: OpsLimits | None = None
) -> AsyncIterator[None]:
    """Serve an app on a listening socket for the length of the block."""
    listening.setblocking(False)  # noqa: FBT003 -- the standard library's signature
    limits = limits or OpsLimits()
    # It listens already, with a queue as long as the subscribers' port has.
    listening.listen(limits.queue)
    server = OpsServer(app, stats, limits)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(server.accept, listening, connections)
            yield
            accepting.cancel_scope.cancel()
        server.end_streams()
        connections.cancel_scope.deadline = trio.current_time() + _FAREWELL_SECONDS
