"""Moves the bytes of one conversation over a Trio stream."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import trio

from odin_ws_client.core.conversation import Conversation
from odin_ws_client.core.errors import ConnectFailed
from odin_ws_client.core.items import Checkpoint, Item
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.dial_errors import dial_error

__all__ = ["Connect", "Connection", "dial", "open_stream"]

Connect = Callable[[], Awaitable[trio.abc.Stream]]

# Bytes per read of the socket: 64 KiB, about 150 messages of 430 bytes.
_READ_BYTES: Final = 1 << 16

# Time limit for the server's close frame after the client's; then the connection is aborted.
_CLOSE_SECONDS: Final = 2


async def dial(address: ServerAddress, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """Open and return a TCP connection to `address`, with TLS if `address` is secure.

    Raises:
        OSError: if the connection or the TLS handshake fails.
    """
    if address.secure:
        return await trio.open_ssl_over_tcp_stream(
            address.host, address.port, https_compatible=True, ssl_context=tls
        )
    return await trio.open_tcp_stream(address.host, address.port)


async def open_stream(connect: Connect, seconds: float) -> trio.abc.Stream:
    """Call `connect` and return its result.

    Raises:
        ConnectFailed: if `connect` fails, or has not returned after `seconds`.
    """
    with trio.move_on_after(seconds):
        try:
            return await connect()
        except (OSError, trio.BrokenResourceError) as error:
            raise ConnectFailed(*dial_error(error)) from error
    raise ConnectFailed(f"no connection within {seconds:g} s")


class Connection:
    """A conversation over a stream; the end of its `async with` block closes both."""

    def __init__(self, stream: trio.abc.Stream, conversation: Conversation) -> None:
        self._stream = stream
        self._conversation = conversation
        # True if a write was interrupted. The stream may then end within a frame, so nothing more
        # is written.
        self._torn = False
        self._woken = False
        self._reading = trio.CancelScope()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send a close frame if possible, wait up to 2 s for the server's, and disconnect."""
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            self._conversation.close()
            with suppress(trio.BrokenResourceError):  # the connection ends by that too
                await self._write(self._conversation.data_to_send())
                await self._until_closed()
            await self._stream.aclose()
            return
        await trio.aclose_forcefully(self._stream)

    async def flush(self) -> None:
        """Write the conversation's pending bytes, and wait until the kernel has them all."""
        data = self._conversation.data_to_send()
        if not data:
            return
        deadline = self._conversation.write_deadline(trio.current_time())
        with trio.CancelScope(deadline=deadline):
            try:
                await self._write(data)
            except trio.BrokenResourceError as error:
                if self._conversation.is_upgraded:
                    self._conversation.stop_writing()
                else:
                    why, permanent = dial_error(error)
                    self._conversation.break_off(why, permanent=permanent)
            return
        self._conversation.give_up_writing()

    async def receive(self) -> Sequence[Item | Checkpoint]:
        """Wait for one read, and return its items.

        Returns no items if the deadline or a call of `wake` comes first.
        """
        deadline = self._conversation.deadline(trio.current_time())
        with trio.CancelScope(deadline=deadline) as self._reading:
            if self._woken:
                self._reading.cancel()
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except trio.BrokenResourceError as error:
                why, permanent = dial_error(error)
                self._conversation.break_off(why, permanent=permanent)
                return ()
            return self._conversation.receive(data, trio.current_time())
        self._woken = False
        self._conversation.tick(trio.current_time())
        return ()

    def wake(self) -> None:
        """Make the current or the next call of `receive` return at once, so `flush` can write.

        Only the runner's task writes to the stream: other tasks call `wake`, and need no lock.
        """
        self._woken = True
        self._reading.cancel()

    async def _write(self, data: bytes) -> None:
        if data and not self._torn:
            self._torn = True
            await self._stream.send_all(data)
            self._torn = False

    async def _until_closed(self) -> None:
        while self._conversation.awaits_close and not self._torn:
            data = await self._stream.receive_some(_READ_BYTES)
            self._conversation.receive(data, trio.current_time())
