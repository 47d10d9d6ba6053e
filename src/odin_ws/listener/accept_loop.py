"""The accept loop: binds the port and accepts many connections per wake-up."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog
import trio

from odin_ws.address import Address, read_socket_address
from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.listener.transport import SocketTransport, Transport

__all__ = [
    "CannotListen",
    "accept_connections",
    "bound_address",
    "open_listening_socket",
    "reserve_port",
]

log = structlog.get_logger("odin_ws.listener")

# Backlog: a burst of new connections waits in the kernel's queue and is not rejected.
_BACKLOG: Final = 4096

# Time limit of one accept pass: about 50 connections, each of which then waits for a read turn; the
# others wait in the kernel's queue.
_SLICE_SECONDS: Final = 0.003

# Time limit for accepting the rest of the queue at the end.
_LAST_SECONDS: Final = 0.1

# Out of descriptors or buffers: retrying at once would only spin.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS: Final = 0.25


class CannotListen(Exception):
    """The address is in use, not local or does not exist; the message says which."""


@contextmanager
def open_listening_socket(address: Address, *, reuse_port: bool = False) -> Iterator[socket.socket]:
    """Open a listening TCP socket; an empty host means every interface, IPv4 and IPv6.

    `reuse_port`: other processes of the same user listen on the port too, and the kernel spreads
    connections over them. Raises CannotListen.
    """
    family, dual = _family(address.host)
    with _explained(address):
        listening = socket.create_server(
            address, family=family, backlog=_BACKLOG, reuse_port=reuse_port, dualstack_ipv6=dual
        )
        # Accepted sockets inherit the option. Each write is a whole message, which would only be
        # delayed by waiting to fill a segment.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)  # noqa: FBT003 -- the standard library's signature
    with listening:
        yield listening


@contextmanager
def reserve_port(address: Address) -> Iterator[Address]:
    """Hold an address, without listening, for sockets that are opened with `reuse_port`.

    Yields the address with the bound port. Raises CannotListen if another process has the address,
    even with `reuse_port`.
    """
    family, dual = _family(address.host)
    with socket.socket(family) as held:
        # SO_REUSEADDR allows binding in spite of TIME_WAIT connections; afterwards it is switched
        # off.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        with _explained(address):
            held.bind(address)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield Address(address.host, held.getsockname()[1])


def _family(host: str) -> tuple[socket.AddressFamily, bool]:
    """Return the address family of a host, and whether it includes IPv4."""
    dual = not host and socket.has_dualstack_ipv6()
    return (socket.AF_INET6 if dual or ":" in host else socket.AF_INET), dual


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The standard library appends the address in its own format.
        why, _, _ = (error.strerror or str(error)).partition(" (while attempting")
        raise CannotListen(f"cannot listen at {address}: {why}") from error


def bound_address(listening: socket.socket) -> Address:
    """Return the address of a socket, with the port that the kernel chose for 0."""
    host, port, *_ = listening.getsockname()
    return Address("" if host in {"::", "0.0.0.0"} else host, port)  # noqa: S104 -- for display, not bound


async def accept_connections(
    listening: socket.socket,
    read_scheduler: ReadScheduler,
    serve: Callable[[Transport, str], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    """Accept until cancelled, then close `listening`: clients are rejected, not kept waiting.

    A task of `nursery`, which outlives this one, serves each connection.
    """
    exhausted = False
    with listening, _none_left(listening, read_scheduler, serve, nursery):
        while True:
            await trio.lowlevel.wait_readable(listening)
            # New connections need read turns as well: the others wait in the kernel's queue.
            await read_scheduler.wait_for_read()
            try:
                for sock, peer in _accept_some(listening, _SLICE_SECONDS):
                    exhausted = False
                    nursery.start_soon(serve, SocketTransport(sock, read_scheduler), peer)
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not exhausted:
                    log.exception(
                        "cannot accept connections: raise the limit of file descriptors or memory"
                    )
                exhausted = True
                await trio.sleep(_EXHAUSTED_SECONDS)


@contextmanager
def _none_left(
    listening: socket.socket,
    read_scheduler: ReadScheduler,
    serve: Callable[[Transport, str], Awaitable[None]],
    nursery: trio.Nursery,
) -> Iterator[None]:
    """Accept the kernel's queue at the end: closing the socket would reset these connections."""
    try:
        yield
    finally:
        # Out of descriptors: these connections are reset.
        with suppress(OSError):
            for sock, peer in _accept_some(listening, _LAST_SECONDS):
                nursery.start_soon(serve, SocketTransport(sock, read_scheduler), peer)


def _accept_some(listening: socket.socket, seconds: float) -> Iterator[tuple[socket.socket, str]]:
    """Yield queued connections until there is none or the time is over."""
    slice_end = trio.current_time() + seconds
    while trio.current_time() < slice_end:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            # The client disconnected while it waited in the queue.
            continue
        yield sock, read_socket_address(address[0])
