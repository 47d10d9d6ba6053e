"""The fault proxy does to connections what its methods say, and nothing else."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.chaos.fault_proxy import FaultProxy, open_fault_proxy

PATIENCE = 10
DELAY = 0.2

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Handle connections for the length of the block; yields the port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@attrs.frozen
class ProxiedServer:
    """A fault proxy with a server behind it."""

    proxy: FaultProxy
    port: int
    accepted: trio.MemoryReceiveChannel[trio.SocketStream]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
        """Connect through the proxy; yields the client's stream and the server's."""
        async with await trio.open_tcp_stream(LOOPBACK, self.port) as near:
            far = await self.accepted.receive()
            # The server may have accepted the connection before the proxy has registered it.
            await near.send_all(b"?")
            await far.receive_some()
            yield near, far


@pytest.fixture
async def proxied() -> AsyncIterator[ProxiedServer]:
    """A proxy that leads to a server."""
    connections, accepted = trio.open_memory_channel[trio.SocketStream](1)

    async def serve(stream: trio.SocketStream) -> None:
        await connections.send(stream)
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with listening(serve) as target, open_fault_proxy([target]) as (proxy, port):
            yield ProxiedServer(proxy, port, accepted)


async def test_bytes_pass_in_both_directions(proxied: ProxiedServer) -> None:
    """Each side receives the bytes of the other, and the end of the other's stream."""
    async with proxied.connected() as (near, far):
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"
        await far.send_all(b"back")
        assert await near.receive_some() == b"back"
        assert proxied.proxy.connections == 1
        await near.aclose()
        assert await far.receive_some() == b""


async def test_delay_applies_to_open_connections(proxied: ProxiedServer) -> None:
    """A delay also applies to a connection that is already open."""
    async with proxied.connected() as (near, far):
        proxied.proxy.delay = DELAY
        began = trio.current_time()
        await near.send_all(b"late")
        assert await far.receive_some() == b"late"
        assert trio.current_time() - began >= DELAY


async def test_cut_resets_both_sides(proxied: ProxiedServer) -> None:
    """Both sides of a cut connection are reset."""
    async with proxied.connected() as ends:
        assert proxied.proxy.cut() == 1
        for end in ends:
            with pytest.raises(trio.BrokenResourceError):
                await end.receive_some()


async def test_freeze_drops_bytes_of_open_connections_only(proxied: ProxiedServer) -> None:
    """A frozen connection drops bytes and the end of stream; a later connection carries them."""
    async with proxied.connected() as (near, far):
        assert proxied.proxy.freeze() == 1
        await near.send_all(b"gone")
        await near.aclose()
        async with proxied.connected() as (later, its_end):
            await later.send_all(b"there")
            assert await its_end.receive_some() == b"there"
            assert proxied.proxy.connections == 2
        readable, _, _ = select.select([far.socket], [], [], 0)
        assert readable == []


async def test_targets_are_used_in_turn_without_rejecting_ones() -> None:
    """Connections go to the targets in turn, except to those that reject."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"%d" % stream.socket.getsockname()[1])

    (unused,) = free_ports(1)
    async with (
        listening(greet) as one,
        listening(greet) as two,
        open_fault_proxy([one, unused, two]) as (_proxy, port),
    ):
        greeted = []
        with trio.fail_after(PATIENCE):
            for _ in range(4):
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    greeted.append(int(await stream.receive_some()))
    assert greeted == [one, two, one, two]
