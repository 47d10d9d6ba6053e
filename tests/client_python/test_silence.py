"""How a client detects that the server no longer responds."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from odin_ws.protocol.frames import close_frame
from odin_ws_client import ClosedByServer, Disconnected, Resumed, Subscribed
from tests.client_python.fake import (
    START,
    FakeServer,
    Visit,
    answer_by_hand,
    begin,
    ending,
    take,
)


async def test_silent_server_is_disconnected(server: FakeServer) -> None:
    """A heartbeat after ten silent seconds, the end after ten more, without a close frame."""
    async with server.follow(positions=START) as client:
        stream = await server.dialled()
        await answer_by_hand(stream)
        await stream.receive_some()
        began = trio.current_time()
        assert len(await stream.receive_some()) > 2  # the heartbeat
        assert trio.current_time() == pytest.approx(began + 10)
        lost = await take(client, Disconnected)
        assert trio.current_time() == pytest.approx(began + 20)
        assert (lost.code, lost.reason) == (1006, "the server has sent nothing for 20 s")
        assert await stream.receive_some() == b""
        await (await server.attempt()).accept()
        await take(client, Resumed)


async def test_silence_sends_a_heartbeat_command(server: FakeServer) -> None:
    """Every server answers this command."""
    async with server.follow():
        attempt = await begin(server)
        assert await attempt.command() == {"type": "heartbeat"}


async def test_close_reason_is_read_after_a_failed_write(server: FakeServer) -> None:
    """A server that closes at once has sent its reason before the write failed."""

    async def connect() -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(turn_away, theirs)
        return OnlyOnce(ours)

    async def turn_away(stream: trio.abc.Stream) -> None:
        await answer_by_hand(stream, close_frame(4401, "who are you?"))

    async with trio.open_nursery() as nursery, server.follow(connect=connect) as client:
        error = await ending(client)
        assert isinstance(error, ClosedByServer)
        assert error.code == 4401


async def test_paused_client_sends_another_heartbeat(server: FakeServer) -> None:
    """After a pause of the client the response may be there and unread."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    async with server.follow() as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        assert await attempt.command() == {"type": "heartbeat"}
        await wait_all_tasks_blocked()
        clock.jump(60)
        assert await attempt.command() == {"type": "heartbeat"}
        began = trio.current_time()
        lost = await take(client, Disconnected)
        assert trio.current_time() == pytest.approx(began + 10)
        assert lost.code == 1006


class OnlyOnce(trio.abc.Stream):
    """A wire whose other end takes the first write, and no other."""

    def __init__(self, wire: trio.abc.Stream) -> None:
        self._wire = wire
        self._written = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, once."""
        if self._written:
            raise trio.BrokenResourceError
        self._written = True
        await self._wire.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """It never does."""
        await self._wire.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        return await self._wire.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close."""
        await self._wire.aclose()


async def test_server_that_answers_heartbeats_stays_connected(server: FakeServer) -> None:
    """However long it has no messages."""

    async def response(attempt: Visit) -> None:
        while True:
            assert (await attempt.command())["type"] == "heartbeat"
            await attempt.send_item(type="pong", ts=0)

    async with server.follow() as client, trio.open_nursery() as nursery:
        nursery.start_soon(response, await begin(server))
        await take(client, Subscribed)
        with trio.move_on_after(3600) as waiting:
            await anext(client)
        assert waiting.cancelled_caught
        nursery.cancel_scope.cancel()
    assert len(server.times) == 1


async def test_server_that_reads_nothing_is_disconnected(server: FakeServer) -> None:
    """A blocked write ends within the same time."""
    server.pair = lockstep_stream_pair  # writing waits for a reader
    async with server.follow(reconnect=False) as client:
        stream = await server.dialled()
        await answer_by_hand(stream)
        began = trio.current_time()
        lost = await take(client, Disconnected)
        assert lost.reason == "the server has read nothing for 10 s"
        assert trio.current_time() == pytest.approx(began + 10)


async def test_subscription_without_a_response_ends_after_a_minute(server: FakeServer) -> None:
    """The server is alive, but does not answer the command."""

    async def chatter(attempt: Visit) -> None:
        while True:
            await trio.sleep(5)
            await attempt.send_item(type="feed", status="live", since=1)

    async with server.follow(reconnect=False) as client, trio.open_nursery() as nursery:
        attempt = await server.attempt()
        began = trio.current_time()
        nursery.start_soon(chatter, attempt)
        assert await ending(client) is None
        assert trio.current_time() == pytest.approx(began + 60)
        nursery.cancel_scope.cancel()
