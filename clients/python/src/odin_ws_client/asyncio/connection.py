"""Moves the bytes of one conversation over a pair of asyncio streams."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from odin_ws_client.core.conversation import Conversation
from odin_ws_client.core.errors import ConnectFailed
from odin_ws_client.core.items import Checkpoint, Item
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.dial_errors import dial_error

__all__ = ["Connect", "Connection", "Streams", "dial", "open_streams"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]

# Bytes per read of the socket: 64 KiB, about 150 messages of 430 bytes.
_READ_BYTES: Final = 1 << 16

# Time limit for the server's close frame after the client's; then the connection is aborted.
_CLOSE_SECONDS: Final = 2


async def dial(address: ServerAddress, tls: ssl.SSLContext | None) -> Streams:
    """Open and return a TCP connection to `address`, with TLS if `address` is secure.

    Raises:
        OSError: if the connection or the TLS handshake fails.
    """
    secure = (tls or ssl.create_default_context()) if address.secure else None
    return await asyncio.open_connection(address.host, address.port, ssl=secure, limit=_READ_BYTES)


async def open_streams(connect: Connect, seconds: float) -> Streams:
    """Call `connect` and return its result.

    Raises:
        ConnectFailed: if `connect` fails, or has not returned after `seconds`.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await connect()
    except OSError as error:
        if limit.expired():
            raise ConnectFailed(f"no connection within {seconds:g} s") from error
        raise ConnectFailed(*dial_error(error)) from error


class Connection:
    """A conversation over a pair of streams; the end of its `async with` block closes both."""

    def __init__(self, streams: Streams, conversation: Conversation) -> None:
        self._reader, self._writer = streams
        self._conversation = conversation
        self._now = asyncio.get_running_loop().time
        # With 0, `drain` waits until the kernel has all bytes, so a server that does not read runs
        # into the write deadline.
        self._writer.transport.set_write_buffer_limits(high=0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send a close frame if possible, wait up to 2 s for the server's, and disconnect."""
        try:
            # An OSError, also as TimeoutError, means that the server is not to be waited for.
            with suppress(OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    self._conversation.close()
                    if self.write():
                        await self._writer.drain()
                    await self._until_closed()
        finally:
            # Unlike close(), abort() does not wait for a server that does not read.
            self._writer.transport.abort()

    def write(self) -> bool:
        """Write the conversation's pending bytes without waiting; return whether there were any."""
        data = self._conversation.data_to_send()
        if data:
            self._writer.write(data)
        return bool(data)

    async def flush(self) -> None:
        """Write the conversation's pending bytes, and wait until the kernel has them all."""
        if not self.write():
            return
        limit = asyncio.timeout_at(self._conversation.write_deadline(self._now()))
        try:
            async with limit:
                await self._writer.drain()
        except OSError as error:
            if limit.expired():
                self._conversation.give_up_writing()
            elif self._conversation.is_upgraded:
                self._conversation.stop_writing()
            else:
                why, permanent = dial_error(error)
                self._conversation.break_off(why, permanent=permanent)

    async def receive(self) -> Sequence[Item | Checkpoint]:
        """Wait for one read, and return its items; return none if the deadline comes first."""
        deadline = self._conversation.deadline(self._now())
        limit = asyncio.timeout_at(None if deadline == math.inf else deadline)
        try:
            async with limit:
                data = await self._reader.read(_READ_BYTES)
        except OSError as error:
            if limit.expired():
                self._conversation.tick(self._now())
            else:
                why, permanent = dial_error(error)
                self._conversation.break_off(why, permanent=permanent)
            return ()
        return self._conversation.receive(data, self._now())

    async def _until_closed(self) -> None:
        while self._conversation.awaits_close:
            data = await self._reader.read(_READ_BYTES)
            self._conversation.receive(data, self._now())
