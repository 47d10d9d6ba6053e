"""Responses of the ops port without an end, such as Server-Sent Events."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import socket
from typing import Any

import h11
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.ops.server import OpsLimits, serve_ops
from odin_ws.testing.ports import LOOPBACK
from tests.ops.requests import GET, Ops, Stream, exchange, run

STREAM = GET.replace(b"/page", b"/stream")


async def begin(ops: Ops, peer: str = "192.0.2.1", request: bytes = STREAM) -> Stream:
    """Return a connection whose stream has begun."""
    client = ops.connect(peer)
    await client.send_all(request)
    await wait_all_tasks_blocked()
    return client


async def test_stream_sends_each_part_at_once(autojump_clock: MockClock) -> None:
    """In chunks, for longer than a page may take; the connection does not count as rejected."""

    async def test(ops: Ops) -> None:
        client = await begin(ops)
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/stream", headers=[("Host", "localhost")]))
        begun = trio.current_time()
        lines: list[bytes] = []
        while len(lines) < 60:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                reader.receive_data(bytes(await client.receive_some(65536)))
            elif isinstance(event, h11.Response):
                assert (b"transfer-encoding", b"chunked") in list(event.headers)
            else:
                assert isinstance(event, h11.Data)
                lines.append(bytes(event.data))
                assert trio.current_time() - begun == pytest.approx(len(lines) - 1)
        assert lines == [b"%d\n" % number for number in range(1, 61)]
        assert not ops.stats.rejected

    await run(test)


async def test_stream_may_be_quiet_for_longer_than_a_page_may_take(
    autojump_clock: MockClock,
) -> None:
    """The time limit applies to the client's reading, not to the app."""

    async def test(ops: Ops) -> None:
        client = await begin(ops, request=STREAM.replace(b"/stream", b"/stream?pause=60"))
        await client.receive_some(65536)
        assert bytes(await client.receive_some(65536)) == b"2\r\n2\n\r\n"
        assert trio.current_time() == pytest.approx(60)

    await run(test)


async def test_stream_to_an_old_client_ends_with_the_connection(autojump_clock: MockClock) -> None:
    """HTTP/1.0 has no chunks."""

    async def test(ops: Ops) -> None:
        client = await begin(ops, request=b"GET /stream HTTP/1.0\r\n\r\n")
        assert bytes(await client.receive_some(65536)).endswith(b"\r\n\r\n1\n")

    await run(test)


async def test_head_request_for_a_stream_gets_the_headers(autojump_clock: MockClock) -> None:
    """The stream ends at once."""

    async def test(ops: Ops) -> None:
        received = await exchange(ops, STREAM.replace(b"GET", b"HEAD"))
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"\r\n\r\n")
        assert ops.streams == 0

    await run(test)


async def test_client_that_does_not_read_holds_one_part(autojump_clock: MockClock) -> None:
    """The app waits until the client is closed after ten seconds."""

    async def test(ops: Ops) -> None:
        client = ops.connect(capacity=2500)
        await client.send_all(STREAM.replace(b"/stream", b"/stream?size=1000"))
        await trio.sleep(5)
        assert (ops.parts, ops.streams) == (3, 1)
        await trio.sleep(8)
        assert (ops.parts, ops.streams) == (3, 0)
        assert ops.served == [False]
        assert ops.stats.rejected == {"timeout": 1}

    await run(test)


async def test_stream_ends_when_its_client_leaves(autojump_clock: MockClock) -> None:
    """At once, not at its next part; its place is free again."""

    async def test(ops: Ops) -> None:
        for _ in range(3):
            client = await begin(ops)
            await trio.sleep(0.5)
            await client.aclose()
            await wait_all_tasks_blocked()
            assert (ops.streams, ops.server.connections) == (0, 0)
        assert not ops.stats.rejected

    await run(test, OpsLimits(streams=1))


async def test_client_that_sends_on_during_a_stream_is_closed(autojump_clock: MockClock) -> None:
    """After 64 KiB, which the server never reads."""

    async def test(ops: Ops) -> None:
        client = await begin(ops)
        await client.send_all(GET * 100)
        await trio.sleep(5)
        assert ops.streams == 1
        await client.send_all(GET * 10_000)
        await trio.sleep(5)
        assert ops.streams == 0
        assert ops.asked == 0

    await run(test)


async def test_stream_above_the_limit_ends_the_oldest_of_the_address_with_most(
    autojump_clock: MockClock,
) -> None:
    """The address with the most streams loses its oldest; streams of others continue."""

    async def test(ops: Ops) -> None:
        await begin(ops, "198.51.100.7")
        for _ in range(5):
            await begin(ops)
        assert ops.streams == 3
        assert ops.served == [False] * 3
        assert ops.stats.rejected == {"max_streams": 3}
        assert (await exchange(ops, GET)).startswith(b"HTTP/1.1 200 ")

    await run(test, OpsLimits(streams=3))


async def test_exception_of_a_stream_truncates_it(autojump_clock: MockClock) -> None:
    """The client gets no last chunk, and the failure is counted."""

    async def test(ops: Ops) -> None:
        received = await exchange(ops, GET.replace(b"/page", b"/breaks"))
        assert received.endswith(b"7\r\na line\n\r\n")
        assert ops.stats.rejected == {"error": 1}

    await run(test)


async def test_streams_end_with_the_service_at_once(mock_clock: MockClock) -> None:
    """A page in flight has a second; a stream would use up that second at each stop."""
    mock_clock.rate = 1
    with socket.create_server((LOOPBACK, 0)) as listening:
        async with trio.open_nursery() as nursery:
            ops = Ops(nursery)
            async with serve_ops(ops.app, listening, ops.stats):
                client = await trio.open_tcp_stream(*listening.getsockname())
                await client.send_all(STREAM)
                assert bytes(await client.receive_some(65536)).startswith(b"HTTP/1.1 200 ")
                stopped = trio.current_time()
            assert trio.current_time() - stopped < 0.5
            assert ops.streams == 0
            await client.aclose()


class Recording(socket.socket):
    """A listening socket that records the accepted connections."""

    accepted: socket.socket | None = None

    def accept(self) -> Any:
        """Accept a connection."""
        self.accepted, address = super().accept()
        return self.accepted, address


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
async def test_kernel_closes_a_vanished_client() -> None:
    """It sends no FIN, and small parts fill the kernel's buffer only after hours."""
    with Recording() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            ops = Ops(nursery)
            async with serve_ops(ops.app, listening, ops.stats):
                client = await trio.open_tcp_stream(*listening.getsockname())
                await client.send_all(STREAM)
                await client.receive_some(1)
                assert listening.accepted is not None
                timeout = listening.accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert timeout == 10_000
                await client.aclose()
