"""The ops server on real sockets: rate, shutdown, accept queue, descriptors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.ops.server import OpsLimits, serve_ops
from odin_ws.testing.ports import LOOPBACK
from tests.ops.requests import GET, Ops


@pytest.fixture(name="listening")
def open_listening() -> Iterator[socket.socket]:
    """Return a listening socket."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield listening


async def _status(port: int, request: bytes) -> bytes:
    """Return the status of a response, empty if the connection was closed without one."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as client:
        await client.send_all(request)
        received = b""
        with suppress(trio.BrokenResourceError):
            while data := await client.receive_some(1000):
                received += bytes(data)
    return received[9:12]


# One connection, and then none for a day.
ONE: Final = OpsLimits(rate=0.00001, rate_per_address=0.00001, burst=1, ready_rate=0.00001)


PROBED: Final = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_beyond_the_rate_pages_get_429_and_liveness_probes_an_answer(
    listening: socket.socket,
) -> None:
    """A liveness probe from the address of a flood gets its response, with any headers."""
    async with trio.open_nursery() as nursery:
        ops = Ops(nursery)
        port = listening.getsockname()[1]
        async with serve_ops(ops.app, listening, ops.stats, ONE):
            assert await _status(port, GET) == b"200"
            assert await _status(port, GET) == b"429"
            assert await _status(port, PROBED) == b"200"
            assert await _status(port, PROBED.replace(b"GET", b"HEAD")) == b"200"
            assert await _status(port, PROBED.replace(b"live", b"live?a=b")) == b"200"
            assert await _status(port, PROBED.replace(b"GET", b"POST")) == b"429"
            assert await _status(port, PROBED.replace(b"live", b"alive")) == b"429"
            assert await _status(port, PROBED.replace(b"live", b"live/")) == b"429"
            # Whether the app has this page does not matter: the request is served.
            assert await _status(port, PROBED.replace(b"live", b"ready")) == b"404"
            assert await _status(port, PROBED.replace(b"live", b"ready")) == b"429"
        assert ops.asked == 1
        assert ops.stats.rejected == {"rate": 5}


async def test_silent_connections_beyond_the_rate_keep_no_place(listening: socket.socket) -> None:
    """A new connection replaces the oldest one, and gets its response at once."""
    limits = attrs.evolve(ONE, over_rate=2)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        ops = Ops(nursery)
        port = listening.getsockname()[1]
        async with serve_ops(ops.app, listening, ops.stats, limits):
            assert await _status(port, GET) == b"200"
            silent = [
                await stack.enter_async_context(await trio.open_tcp_stream(LOOPBACK, port))
                for _ in range(2)
            ]
            await wait_all_tasks_blocked(0.05)
            begun = trio.current_time()
            assert await _status(port, PROBED) == b"200"
            # For a quarter of a second no connection is replaced.
            assert trio.current_time() - begun > 0.1
            await stack.enter_async_context(await trio.open_tcp_stream(LOOPBACK, port))
            # The first one was closed for the third one that says nothing.
            with trio.fail_after(1), suppress(trio.BrokenResourceError):
                assert await silent[0].receive_some(1) == b""


async def test_a_supervisor_is_never_over_the_rate(tmp_path: Path) -> None:
    """Only the supervisor uses a worker's socket; a 429 would count the worker as failed."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "ops"))
        listening.listen()
        async with trio.open_nursery() as nursery:
            ops = Ops(nursery)
            limits = OpsLimits(rate=20, rate_per_address=1, burst=5)
            async with serve_ops(ops.app, listening, ops.stats, limits):
                begun = trio.current_time()
                async with trio.open_nursery() as crowd:
                    for _ in range(15):
                        crowd.start_soon(_ask_unix, str(tmp_path / "ops"))
                assert trio.current_time() - begun > 0.4
            assert ops.asked == 15


async def _ask_unix(path: str) -> None:
    async with await trio.open_unix_socket(path) as client:
        await client.send_all(GET)
        assert bytes(await client.receive_some(1000)).startswith(b"HTTP/1.1 200 ")


async def test_request_in_flight_at_the_end_is_answered(listening: socket.socket) -> None:
    """The port stops accepting, and a request in flight gets one second."""
    async with trio.open_nursery() as nursery:
        ops = Ops(nursery)
        async with serve_ops(ops.app, listening, ops.stats):
            client = await trio.open_tcp_stream(*listening.getsockname())
            await client.send_all(GET[:-2])
            await wait_all_tasks_blocked(0.05)
            nursery.start_soon(_finish, client)
        assert ops.asked == 1


async def _finish(client: trio.SocketStream) -> None:
    await client.send_all(b"\r\n")
    assert bytes(await client.receive_some(1000)).startswith(b"HTTP/1.1 200 ")
    await client.aclose()


async def _ask_socket(port: int) -> None:
    async with await trio.open_tcp_stream(LOOPBACK, port) as client:
        await client.send_all(GET)
        assert bytes(await client.receive_some(1000)).startswith(b"HTTP/1.1 200 ")


async def test_page_knows_the_address_that_its_connection_arrived_at(
    listening: socket.socket,
) -> None:
    """The host check accepts this address, whichever one the port listens at."""
    async with trio.open_nursery() as nursery:
        ops = Ops(nursery)
        async with serve_ops(ops.app, listening, ops.stats):
            client = await trio.open_tcp_stream(*listening.getsockname())
            await client.send_all(GET.replace(b"/page", b"/arrived"))
            received = bytes(await client.receive_some(1000))
            assert received.endswith(str(listening.getsockname()).encode())
            await client.aclose()


class Exhausted(socket.socket):
    """A listening socket of a process that has no free descriptors at first."""

    failures = 3

    def accept(self) -> Any:
        """Raise EMFILE a few times, then accept."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def test_ops_port_recovers_from_a_lack_of_descriptors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line is logged, and the waiting client is served."""
    with Exhausted() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            ops = Ops(nursery)
            async with serve_ops(ops.app, listening, ops.stats):
                await _ask_socket(listening.getsockname()[1])
    assert ops.asked == 1
    assert listening.failures == 0
    printed = capsys.readouterr().out
    assert printed.count("ops port cannot accept") == 1
    assert "Traceback" not in printed


async def test_connections_beyond_the_queue_stay_in_the_kernel(listening: socket.socket) -> None:
    """A later client does not wait for a whole crowd."""
    connected = 0

    async def connect() -> None:
        nonlocal connected
        async with await trio.open_tcp_stream(*listening.getsockname()):
            connected += 1
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        ops = Ops(nursery)
        limits = OpsLimits(rate=0.1, burst=1, queue=5)
        async with serve_ops(ops.app, listening, ops.stats, limits):
            for _ in range(30):
                nursery.start_soon(connect)
            await trio.sleep(0.5)
            assert 5 <= connected <= 10
            nursery.cancel_scope.cancel()
