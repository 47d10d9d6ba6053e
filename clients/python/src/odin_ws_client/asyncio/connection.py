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

# One read of a socket: some 150 messages of a usual size.
_READ_BYTES: Final = 1 << 16

# How long the server may take to answer our close; after that the connection is cut.
_CLOSE_SECONDS: Final = 2


async def dial(address: ServerAddress, tls: ssl.SSLContext | None) -> Streams:
    """A TCP connection to `address`, with TLS from the first byte where its URL says so.

    Raises OSError.
    """
    secure = (tls or ssl.create_default_context()) if address.secure else None
    return await asyncio.open_connection(address.host, address.port, ssl=secure, limit=_READ_BYTES)


async def open_streams(connect: Connect, seconds: float) -> Streams:
    """Call `connect`. Raises ConnectFailed, also after so many seconds."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await connect()
    except OSError as error:
        if limit.expired():
            raise ConnectFailed(f"no connection within {seconds:g} s") from error
        raise ConnectFailed(*dial_error(error)) from error


class Connection:
    """A pair of streams with a conversation over it; leave its `async with` to close both."""

    def __init__(self, streams: Streams, conversation: Conversation) -> None:
        self._reader, self._writer = streams
        self._conversation = conversation
        self._now = asyncio.get_running_loop().time
        # `drain` is to wait until everything is sent: a server that takes nothing shows by that.
        self._writer.transport.set_write_buffer_limits(high=0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say goodbye if that is still possible, wait for the answer, but not long, and close."""
        try:
            # An OSError, or the time is over: that it ends is what we want.
            with suppress(OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    self._conversation.close()
                    if self.write():
                        await self._writer.drain()
                    await self._until_closed()
        finally:
            # Unlike close() it does not wait for a server that takes nothing.
            self._writer.transport.abort()

    def write(self) -> bool:
        """Write what the conversation has to say, if anything; `flush` waits until it is sent."""
        data = self._conversation.data_to_send()
        if data:
            self._writer.write(data)
        return bool(data)

    async def flush(self) -> None:
        """Write what the conversation has to say, and wait until the kernel has room."""
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
        """Wait for the next items, those of one read; there are none where something is due."""
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
