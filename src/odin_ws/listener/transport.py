"""The transport of one connection: bytes in and out, with a send that never waits."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import Final, Protocol

import trio

from odin_ws.listener.read_scheduler import ReadScheduler

__all__ = ["SocketTransport", "Transport"]


_INT: Final = struct.Struct("i")


class Transport(Protocol):
    """A byte stream whose send never waits and returns how much it took."""

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send what fits now; returns its length, 0 for none.

        Raises trio.BrokenResourceError once the connection is gone.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until `send_nowait` may take bytes, or would raise."""
        ...

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """Return available bytes, empty at the end, None if there are none yet.

        Waits only for the client's read turn. Raises trio.BrokenResourceError if the connection is
        gone.
        """
        ...

    async def receive_some(self, max_bytes: int) -> bytes:
        """Wait for bytes; empty at the end. Raises trio.BrokenResourceError if it is gone."""
        ...

    def unacknowledged(self) -> int:
        """Return the number of sent bytes that the peer has not acknowledged yet."""
        ...

    def send_eof(self) -> None:
        """Send the end of the stream; reading continues."""
        ...

    def close(self) -> None:
        """Close the connection and wake tasks that wait on it. Idempotent."""
        ...


class SocketTransport:
    """A connected TCP socket. Not trio's SocketStream: its `send_all` waits, the hub must not."""

    __slots__ = ("_read_scheduler", "_socket")

    def __init__(self, sock: socket.socket, read_scheduler: ReadScheduler) -> None:
        sock.setblocking(False)  # noqa: FBT003 -- the standard library's signature
        self._socket = sock
        self._read_scheduler = read_scheduler

    def send_nowait(self, data: bytes | memoryview) -> int:
        """See Transport."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_writable(self) -> None:
        """See Transport."""
        await trio.lowlevel.wait_writable(self._socket)
        await self._read_scheduler.wait_for_read()

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """See Transport."""
        await self._read_scheduler.wait_for_read()
        try:
            return self._socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def receive_some(self, max_bytes: int) -> bytes:
        """See Transport."""
        while True:
            # Waits even if bytes are available, which is rare: this is the checkpoint.
            await trio.lowlevel.wait_readable(self._socket)
            data = await self.receive_now(max_bytes)
            if data is not None:
                return data

    def unacknowledged(self) -> int:
        """See Transport."""
        try:
            size = fcntl.ioctl(self._socket, termios.TIOCOUTQ, _INT.pack(0))
        except (OSError, ValueError):
            # Closed meanwhile, or a socket of another kind.
            return 0
        return int(_INT.unpack(size)[0])

    def send_eof(self) -> None:
        """See Transport."""
        # The peer may already be gone.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See Transport."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
