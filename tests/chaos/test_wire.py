"""The proxy does to connections what its methods say, and nothing else."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.chaos.wire import Wire, open_wire

PATIENCE = 10
DELAY = 0.2

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Handle connections for the length of the block; gives the port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@attrs.frozen
class Path:
    """A wire with a server behind it."""

    wire: Wire
    port: int
    arrivals: trio.MemoryReceiveChannel[trio.SocketStream]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
        """Connect through the wire: the client's end and the server's."""
        async with await trio.open_tcp_stream(LOOPBACK, self.port) as near:
            far = await self.arrivals.receive()
            # The server has the connection before the wire has noted it.
            await near.send_all(b"?")
            await far.receive_some()
            yield near, far


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    """A wire that leads to a server."""
    arrived, arrivals = trio.open_memory_channel[trio.SocketStream](1)

    async def serve(stream: trio.SocketStream) -> None:
        await arrived.send(stream)
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with listening(serve) as target, open_wire([target]) as (wire, port):
            yield Path(wire, port, arrivals)


async def test_bytes_pass_both_ways(path: Path) -> None:
    """Each end receives the bytes that the other sends, and is told the end of the other side."""
    async with path.connected() as (near, far):
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"
        await far.send_all(b"back")
        assert await near.receive_some() == b"back"
        assert path.wire.connections == 1
        await near.aclose()
        assert await far.receive_some() == b""


async def test_delay(path: Path) -> None:
    """Bytes take as long as the wire says, also in the middle of a connection."""
    async with path.connected() as (near, far):
        path.wire.delay = DELAY
        began = trio.current_time()
        await near.send_all(b"late")
        assert await far.receive_some() == b"late"
        assert trio.current_time() - began >= DELAY


async def test_cut(path: Path) -> None:
    """A cut connection is reset on both sides."""
    async with path.connected() as ends:
        assert path.wire.cut() == 1
        for end in ends:
            with pytest.raises(trio.BrokenResourceError):
                await end.receive_some()


async def test_freeze(path: Path) -> None:
    """A frozen connection swallows bytes and ends; one that comes later carries them."""
    async with path.connected() as (near, far):
        assert path.wire.freeze() == 1
        await near.send_all(b"gone")
        await near.aclose()
        async with path.connected() as (later, its_end):
            await later.send_all(b"there")
            assert await its_end.receive_some() == b"there"
            assert path.wire.connections == 2
        readable, _, _ = select.select([far.socket], [], [], 0)
        assert readable == []


async def test_targets_take_turns() -> None:
    """Connections go to the targets in turn, past those that reject."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"%d" % stream.socket.getsockname()[1])

    (nobody,) = free_ports(1)
    async with (
        listening(greet) as one,
        listening(greet) as two,
        open_wire([one, nobody, two]) as (_wire, port),
    ):
        greeted = []
        with trio.fail_after(PATIENCE):
            for _ in range(4):
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    greeted.append(int(await stream.receive_some()))
    assert greeted == [one, two, one, two]
