"""A crowd on the ops port stalls nobody: a real server, and a subscriber beside the crowd."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil
import pytest
import trio

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration.running_source import until
from tests.integration.servers import Client, Server, connected, serving

# The crowd.
CONNECTIONS = 400
PIPELINED = 40

METRICS = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

# A round trip takes a millisecond; the rest is for a machine that others keep busy.
PROMPT_SECONDS = 1.0

# 400 connections at 200 a second. The kernel has some of them try again, after 1, 3, 7 and 15 s.
SERVED_SECONDS = 60


class Crowd:
    """Clients of the ops port. `pages`: how many they have got."""

    def __init__(self, port: int) -> None:
        self.pages = 0
        self._port = port

    async def pipeline(self) -> None:
        """Ask for 40 pages at once and read what comes."""
        with suppress(OSError, trio.BrokenResourceError):  # rejected: what the limits are for
            async with await trio.open_tcp_stream(LOOPBACK, self._port) as stream:
                await stream.send_all(METRICS * PIPELINED)
                while data := await stream.receive_some(65536):
                    self.pages += bytes(data).count(b"HTTP/1.1 200 ")

    async def never_read(self) -> None:
        """Ask for pages as long as that goes, and read nothing."""
        with suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream(LOOPBACK, self._port) as stream:
                while True:
                    await stream.send_all(METRICS * PIPELINED)


async def slowest_heartbeat(client: Client, stop: trio.Event) -> float:
    """The longest round trip of a subscriber's heartbeats, one every 20 ms."""
    slowest = 0.0
    while not stop.is_set():
        begun = time.monotonic()
        await client.command("heartbeat")
        slowest = max(slowest, time.monotonic() - begun)
        await trio.sleep(0.02)
    return slowest


@asynccontextmanager
async def idle_server(workers: str = "1") -> AsyncIterator[Server]:
    """A server whose Kafka is away: its ports are served all the same."""
    (port,) = free_ports(1)
    settings = {"WS_WORKERS": workers}
    async with serving(f"{LOOPBACK}:{port}", settings, ready=False) as server:

        async def serves() -> bool:
            return await server.metric("ws_worker_up") == int(workers)

        if workers != "1":
            await until(serves)
        yield server


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_pipelined_pages_of_400_connections_leave_subscribers_prompt(workers: str) -> None:
    """The crowd gets a page per connection, and is done soon; `/health/live` answers beside it."""
    async with idle_server(workers) as server, connected(server) as client:
        crowd, done = Crowd(server.ops_port), trio.Event()

        async def come() -> None:
            with trio.fail_after(SERVED_SECONDS):
                async with trio.open_nursery() as nursery:
                    for _ in range(CONNECTIONS):
                        nursery.start_soon(crowd.pipeline)
                    assert (await server.get("/health/live")).status_code == 200
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            assert await slowest_heartbeat(client, done) < PROMPT_SECONDS
        assert 0 < crowd.pages <= CONNECTIONS


async def test_ops_connections_that_never_read_are_closed() -> None:
    """All of them, soon; a subscriber beside them stays prompt, and no descriptor is left."""
    async with idle_server() as server, connected(server) as client:
        process = psutil.Process(server.process.pid)
        before, done = process.num_fds(), trio.Event()

        async def come() -> None:
            with trio.fail_after(SERVED_SECONDS):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(Crowd(server.ops_port).never_read)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            assert await slowest_heartbeat(client, done) < PROMPT_SECONDS

        async def is_free() -> bool:
            return process.num_fds() <= before

        await until(is_free)
