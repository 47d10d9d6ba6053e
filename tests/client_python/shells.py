"""The client's Trio and asyncio shells for tests in Trio: one clock, the same streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

import odin_ws_client.asyncio
import odin_ws_client.trio
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop, trio_as_aio
from odin_ws_client import Subscription
from odin_ws_client.core.client import BaseClient
from odin_ws_client.core.items import Checkpoint, Item

__all__ = ["SHELLS", "Open", "Streams", "in_asyncio", "open_asyncio_client"]

Dial = Callable[[], Awaitable[trio.abc.Stream]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# `open_client` of a shell, with functions of Trio as options.
Open = Callable[..., AbstractAsyncContextManager[BaseClient]]


class _InTrio(BaseClient):
    """An asyncio client, iterated by tasks of Trio."""

    def __init__(self, client: odin_ws_client.asyncio.Client, loop: Any) -> None:
        vars(self).update(vars(client))  # its twin
        self._client = client
        self._carry_out = aio_as_trio(client._carry_out, loop=loop)  # type: ignore[method-assign]  # noqa: SLF001 -- its twin
        self._receive_there = aio_as_trio(client._receive, loop=loop)  # noqa: SLF001 -- its twin

    async def _receive(self) -> Sequence[Item | Checkpoint] | None:
        batch: Sequence[Item | Checkpoint] | None = await self._receive_there()
        self.error = self._client.error
        return batch


@asynccontextmanager
async def in_asyncio(connect: Dial) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[Streams]]]]:
    """An asyncio loop that runs in Trio, and a function for it that dials as `connect` does."""
    async with open_loop() as loop, trio.open_nursery() as nursery:
        yield loop, partial(_streams, connect, loop, nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_asyncio_client(
    url: str,
    subscriptions: Subscription | Iterable[Subscription],
    *,
    connect: Dial,
    token: str | Callable[[], Awaitable[str]] | None = None,
    **options: Any,
) -> AsyncIterator[BaseClient]:
    """`open_client` of the asyncio shell, in an asyncio loop that runs in Trio."""
    async with in_asyncio(connect) as (loop, there):
        given = trio_as_aio(token) if callable(token) else token
        manager = odin_ws_client.asyncio.open_client(
            url, subscriptions, token=given, connect=there, **options
        )
        async with aio_as_trio(manager, loop=loop) as client:
            yield _InTrio(client, loop)


async def _streams(
    connect: Dial, loop: asyncio.AbstractEventLoop, nursery: trio.Nursery
) -> Streams:
    """The asyncio streams of a wire that a function of Trio dials."""
    wire = await trio_as_aio(connect)()
    reader = asyncio.StreamReader(1 << 16, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = _WireTransport(wire, protocol, loop)
    protocol.connection_made(transport)
    nursery.start_soon(transport.run)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _WireTransport(asyncio.Transport):
    """Moves bytes between an asyncio protocol and a wire of Trio."""

    def __init__(
        self,
        wire: trio.abc.Stream,
        protocol: asyncio.StreamReaderProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__()
        self._wire = wire
        self._protocol = protocol
        self._loop = loop
        self._unsent = bytearray()
        self._changed = trio.Event()
        self._is_reading = True
        self._scope = trio.CancelScope()
        self._is_closing = False
        # Up to 64 KiB a transport takes without a word, unless it is told otherwise.
        self._pauses_at_once = False

    async def run(self) -> None:
        """Move bytes until one side ends it."""
        error: Exception | None = None
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_all)
                    await self._read_all()
        except* (trio.BrokenResourceError, OSError) as group:
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            cause = first.__cause__
            error = cause if isinstance(cause, OSError) else ConnectionResetError("broken")
        finally:
            self._is_closing = True
            await trio.aclose_forcefully(self._wire)
        self._protocol.connection_lost(error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Have bytes sent."""
        if self._pauses_at_once and not self._unsent:
            self._protocol.pause_writing()
        self._unsent += data
        self._change()

    def pause_reading(self) -> None:
        """The reader has enough."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """The reader wants more."""
        self._is_reading = True
        self._change()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What the client asks for."""
        self._pauses_at_once = high == 0 and not low

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._is_closing

    def abort(self) -> None:
        """Close without sending what is left."""
        self._is_closing = True
        self._scope.cancel()

    def close(self) -> None:
        """The client aborts."""
        raise NotImplementedError

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _read_all(self) -> None:
        while True:
            while not self._is_reading:
                await self._changed.wait()
            data = await self._wire.receive_some(1 << 16)
            if not data:
                self._protocol.eof_received()
                await trio.sleep_forever()
            self._protocol.data_received(bytes(data))

    async def _write_all(self) -> None:
        while True:
            while not self._unsent:
                await self._changed.wait()
            data = bytes(self._unsent)
            await self._wire.send_all(data)
            del self._unsent[: len(data)]
            if self._pauses_at_once and not self._unsent:
                self._protocol.resume_writing()


SHELLS: Final[dict[str, Open]] = {
    "trio": odin_ws_client.trio.open_client,
    "asyncio": open_asyncio_client,
}
