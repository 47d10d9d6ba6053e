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

# A storm of callers waits in the kernel's queue rather than being rejected.
_BACKLOG: Final = 4096

# How long one turn may accept: some 50 callers, who then wait for turns of their own; the others
# wait in the kernel's queue.
_SLICE_SECONDS: Final = 0.003

# At the end whoever is in the queue is taken, if that does not take for ever.
_LAST_SECONDS: Final = 0.1

# Out of descriptors or buffers: retrying at once would only spin.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS: Final = 0.25


class CannotListen(Exception):
    """An address that is in use, is not ours, or does not exist; the message says which."""


@contextmanager
def open_listening_socket(address: Address, *, reuse_port: bool = False) -> Iterator[socket.socket]:
    """A listening TCP socket; an empty host means every interface, IPv4 and IPv6.

    `reuse_port`: others of the same user listen there too, and the kernel spreads callers over
    them. Raises CannotListen.
    """
    family, dual = _family(address.host)
    with _told(address):
        listening = socket.create_server(
            address, family=family, backlog=_BACKLOG, reuse_port=reuse_port, dualstack_ipv6=dual
        )
        # Accepted sockets inherit it: a message is a whole write already, and waiting to fill a
        # segment would only delay it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)  # noqa: FBT003 -- the standard library's signature
    with listening:
        yield listening


@contextmanager
def reserve_port(address: Address) -> Iterator[Address]:
    """Hold an address, without listening, for sockets that are opened with `reuse_port`.

    Gives the address with the port it really got. Raises CannotListen where anybody has it
    already, also one who would share it.
    """
    family, dual = _family(address.host)
    with socket.socket(family) as held:
        # To bind in spite of connections in TIME_WAIT; after that nobody else shall bind.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        with _told(address):
            held.bind(address)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield Address(address.host, held.getsockname()[1])


def _family(host: str) -> tuple[socket.AddressFamily, bool]:
    """The address family of a host, and whether it stands for IPv4 as well."""
    dual = not host and socket.has_dualstack_ipv6()
    return (socket.AF_INET6 if dual or ":" in host else socket.AF_INET), dual


@contextmanager
def _told(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The standard library repeats the address in its own way.
        why, _, _ = (error.strerror or str(error)).partition(" (while attempting")
        raise CannotListen(f"cannot listen at {address}: {why}") from error


def bound_address(listening: socket.socket) -> Address:
    """Where a socket listens: the port it got where 0 was asked for."""
    host, port, *_ = listening.getsockname()
    return Address("" if host in {"::", "0.0.0.0"} else host, port)  # noqa: S104 -- told, not bound


async def accept_connections(
    listening: socket.socket,
    read_scheduler: ReadScheduler,
    serve: Callable[[Transport, str], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    """Accept until cancelled, then close `listening`: clients are rejected, not kept waiting.

    Each connection is served in a task of `nursery`, which outlives this.
    """
    exhausted = False
    with listening, _none_left(listening, read_scheduler, serve, nursery):
        while True:
            await trio.lowlevel.wait_readable(listening)
            # Whom it takes needs turns as well: the others wait in the kernel's queue.
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
    """Take at the end whom the kernel has let in: closing the socket would reset them."""
    try:
        yield
    finally:
        # Out of descriptors: then they are reset after all.
        with suppress(OSError):
            for sock, peer in _accept_some(listening, _LAST_SECONDS):
                nursery.start_soon(serve, SocketTransport(sock, read_scheduler), peer)


def _accept_some(listening: socket.socket, seconds: float) -> Iterator[tuple[socket.socket, str]]:
    """Connections that wait, until there is none or the time is over."""
    slice_end = trio.current_time() + seconds
    while trio.current_time() < slice_end:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            # The caller hung up while it waited in the queue.
            continue
        yield sock, read_socket_address(address[0])
