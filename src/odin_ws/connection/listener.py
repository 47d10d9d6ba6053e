"""Accepting: many connections per wake-up, so that a busy dispatcher does not keep callers waiting."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from odin_ws.connection.transport import SocketTransport, Transport

__all__ = ["accept_connections", "open_listening_socket"]

log = structlog.get_logger("odin_ws.listener")

# A storm of callers waits in the kernel's queue rather than being refused.
_BACKLOG: Final = 4096

# How long one wake-up may accept before other tasks get their turn.
_SLICE_SECONDS: Final = 0.005

# Out of descriptors or buffers: retrying at once would only spin.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS: Final = 0.25


@contextmanager
def open_listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A listening TCP socket; an empty host means every interface, IPv4 and IPv6."""
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    with socket.create_server(
        (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
    ) as sock:
        sock.setblocking(False)
        yield sock


async def accept_connections(
    listening: socket.socket,
    serve: Callable[[Transport, str], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    """Accept until cancelled; each connection is served in a task of `nursery`, which outlives us."""
    exhausted = False
    while True:
        await trio.lowlevel.wait_readable(listening)
        try:
            for sock, peer in _accept_some(listening):
                exhausted = False
                nursery.start_soon(serve, SocketTransport(sock), peer)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if not exhausted:
                log.exception("cannot accept: raise the limit of descriptors or memory")
            exhausted = True
            await trio.sleep(_EXHAUSTED_SECONDS)


def _accept_some(listening: socket.socket) -> Iterator[tuple[socket.socket, str]]:
    """Connections that wait, until there is none or the slice is over."""
    slice_end = trio.current_time() + _SLICE_SECONDS
    while trio.current_time() < slice_end:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            # The caller hung up while it waited in the queue.
            continue
        yield sock, str(address[0])
