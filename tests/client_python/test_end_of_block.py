"""The end of a client's block under Trio and asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import trio

import odin_ws_client.asyncio.runner
import odin_ws_client.trio.runner
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, trio_as_aio
from odin_ws_client import ClientError
from odin_ws_client.asyncio import open_client
from tests.client_python.fake import TRADES, FakeServer, answer_by_hand
from tests.client_python.shells import SHELLS, Streams, in_asyncio

URL = "ws://odin.test/ws"


@pytest.fixture
def server(nursery: trio.Nursery) -> FakeServer:
    """Each test says which shell it tests."""
    return FakeServer(nursery, SHELLS["trio"])


async def in_loop(
    server: FakeServer, body: Callable[[Callable[[], Awaitable[Streams]]], Awaitable[None]]
) -> None:
    """Run a function of asyncio that gets what dials the server."""
    async with in_asyncio(server.connect) as (loop, connect):
        await aio_as_trio(body, loop=loop)(connect)


async def test_error_in_a_trio_block_is_not_in_a_group(server: FakeServer) -> None:
    """The client's own tasks do not wrap it, whether it is the client's error or another."""

    async def iterate() -> None:
        async with server.follow() as client:
            await (await server.attempt()).close(4403, "not you")
            async for _ in client:
                pass

    async def fail() -> None:
        async with server.follow():
            await server.attempt()
            raise KeyError

    with pytest.raises(ClientError):
        await iterate()
    with pytest.raises(KeyError):
        await fail()


async def test_error_in_an_asyncio_block_is_not_in_a_group(server: FakeServer) -> None:
    """As in Trio."""

    async def reject() -> None:
        await (await server.attempt()).close(4403, "not you")

    async def body(connect: Callable[[], Awaitable[Streams]]) -> None:
        with pytest.raises(ClientError):
            await iterate(connect)
        with pytest.raises(KeyError):
            await fail(connect)

    async def iterate(connect: Callable[[], Awaitable[Streams]]) -> None:
        async with open_client(URL, TRADES, connect=connect) as client:
            await trio_as_aio(reject)()
            async for _ in client:
                pass

    async def fail(connect: Callable[[], Awaitable[Streams]]) -> None:
        async with open_client(URL, TRADES, connect=connect):
            await trio_as_aio(server.attempt)()
            raise KeyError

    await in_loop(server, body)


async def test_a_bug_in_the_trio_client_is_not_hidden(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the block, with its traceback."""

    async def fail(_self: object) -> None:
        raise IndexError

    monkeypatch.setattr(odin_ws_client.trio.runner.Runner, "run", fail)
    with pytest.RaisesGroup(IndexError):
        async with server.follow():
            await trio.sleep_forever()


async def test_a_bug_in_the_asyncio_client_is_not_hidden(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Trio."""

    async def fail(_self: object) -> None:
        raise IndexError

    monkeypatch.setattr(odin_ws_client.asyncio.runner.Runner, "run", fail)

    async def body(connect: Callable[[], Awaitable[Streams]]) -> None:
        with pytest.RaisesGroup(IndexError):
            async with open_client(URL, TRADES, connect=connect):
                await asyncio.Event().wait()

    await in_loop(server, body)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_close_of_an_unresponsive_server_takes_two_seconds_in_trio(
    server: FakeServer, *, cancelled: bool
) -> None:
    """The close is sent, and its response awaited for two seconds, also in a cancelled client."""
    with trio.CancelScope() as scope:
        async with server.follow():
            stream = await server.dialled()
            await answer_by_hand(stream)
            await stream.receive_some()
            left = trio.current_time()
            if cancelled:
                scope.cancel()
    assert trio.current_time() == pytest.approx(left + 2)
    assert bytes(await stream.receive_some())[0] == 0x88


@pytest.mark.parametrize("cancelled", [False, True])
async def test_close_of_an_unresponsive_server_takes_two_seconds_in_asyncio(
    server: FakeServer, *, cancelled: bool
) -> None:
    """As in Trio."""

    async def begin() -> trio.abc.Stream:
        stream = await server.dialled()
        await answer_by_hand(stream)
        await stream.receive_some()
        return stream

    async def body(connect: Callable[[], Awaitable[Streams]]) -> None:
        limit = asyncio.timeout(None)
        stream: trio.abc.Stream | None = None
        left = 0.0
        try:
            async with limit, open_client(URL, TRADES, connect=connect):
                stream = await trio_as_aio(begin)()
                left = trio.current_time()
                if cancelled:
                    limit.reschedule(asyncio.get_running_loop().time())
                    await asyncio.Event().wait()
        except TimeoutError:
            assert cancelled
        assert trio.current_time() == pytest.approx(left + 2)
        assert stream is not None
        assert bytes(await trio_as_aio(stream.receive_some)())[0] == 0x88

    await in_loop(server, body)


async def test_iteration_ends_after_a_trio_block(server: FakeServer) -> None:
    """A closed client has no further items."""
    async with server.follow() as client:
        await server.attempt()
    assert [item async for item in client] == []


async def test_iteration_ends_after_an_asyncio_block(server: FakeServer) -> None:
    """As in Trio."""

    async def body(connect: Callable[[], Awaitable[Streams]]) -> None:
        async with open_client(URL, TRADES, connect=connect) as client:
            await trio_as_aio(server.attempt)()
        assert [item async for item in client] == []

    await in_loop(server, body)
