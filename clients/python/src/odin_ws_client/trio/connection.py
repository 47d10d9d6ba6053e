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

# One read of a socket: some 150 messages of a usual size.
_READ_BYTES: Final = 1 << 16

# How long the server may take to answer our close; after that the connection is cut.
_CLOSE_SECONDS: Final = 2


async def dial(address: ServerAddress, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """A TCP connection to `address`, with TLS from the first byte where its URL says so.

    Raises OSError.
    """
    if address.secure:
        return await trio.open_ssl_over_tcp_stream(
            address.host, address.port, https_compatible=True, ssl_context=tls
        )
    return await trio.open_tcp_stream(address.host, address.port)


async def open_stream(connect: Connect, seconds: float) -> trio.abc.Stream:
    """Call `connect`. Raises ConnectFailed, also after so many seconds."""
    with trio.move_on_after(seconds):
        try:
            return await connect()
        except (OSError, trio.BrokenResourceError) as error:
            raise ConnectFailed(*dial_error(error)) from error
    raise ConnectFailed(f"no connection within {seconds:g} s")


class Connection:
    """A stream with a conversation over it; leave its `async with` to close both."""

    def __init__(self, stream: trio.abc.Stream, conversation: Conversation) -> None:
        self._stream = stream
        self._conversation = conversation
        # A write that did not come to its end has left half a frame: no other may follow.
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
        """Say goodbye if that is still possible, wait for the answer, but not long, and close."""
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            self._conversation.close()
            with suppress(trio.BrokenResourceError):  # that it ends is what we want
                await self._write(self._conversation.data_to_send())
                await self._until_closed()
            await self._stream.aclose()
            return
        await trio.aclose_forcefully(self._stream)

    async def flush(self) -> None:
        """Write what the conversation has to say."""
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
        """Wait for the next items, those of one read.

        There are none where something else is due, or somebody calls `wake`.
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
        """Have `receive` return, or do so at once when it is called: there is something to send.

        Others do not send themselves, so nobody has to wait for his turn.
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
