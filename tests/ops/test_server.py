"""The ops port's HTTP server: one request per connection, with bounds on time and size."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.ops.server import OpsLimits
from tests.ops.requests import GET, Ops, exchange, response, run


async def test_request_is_answered_and_the_connection_closed(autojump_clock: MockClock) -> None:
    """The response has `Connection: close`, a length and a date."""

    async def test(ops: Ops) -> None:
        request, _, body = (await exchange(ops, GET)).partition(b"\r\n\r\n")
        lines = request.lower().split(b"\r\n")
        assert lines[0] == b"http/1.1 200 ok"
        assert {b"connection: close", b"content-length: 7"} <= set(lines)
        assert any(line.startswith(b"date: ") for line in lines)
        assert body == b"a page\n"
        await wait_all_tasks_blocked()
        assert ops.served == [True]
        assert not ops.stats.rejected

    await run(test)


async def test_pipelined_requests_after_the_first_are_not_served(autojump_clock: MockClock) -> None:
    """Forty requests in one write get one response."""

    async def test(ops: Ops) -> None:
        assert (await exchange(ops, GET * 40)).count(b"HTTP/1.1 200") == 1
        assert ops.asked == 1

    await run(test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /page HTTP/1.0\r\n\r\n", b"200"),  # HAProxy's health check
        (b"HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /pa%67e HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /page?a=b HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"GET http://a/page HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"GET /%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET /page HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, b"431"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"400"),
        (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            b"400",
        ),
    ],
)
async def test_every_kind_of_request_gets_its_status(
    autojump_clock: MockClock, request_: bytes, status: bytes
) -> None:
    """Invalid HTTP gets 400; each connection is closed, and no exception is raised."""

    async def test(ops: Ops) -> None:
        received = await exchange(ops, request_)
        assert received.split(b" ")[1] == status, received
        assert (b"a page\n" in received) is (status == b"200" and not request_.startswith(b"HEAD"))
        await trio.sleep(1)
        assert ops.stats.rejected["bad_request"] == (status in {b"400", b"431"})

    await run(test)


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_body_is_read(autojump_clock: MockClock, framing: bytes) -> None:
    """With a length or in chunks; `Expect: 100-continue` gets 100."""

    async def test(ops: Ops) -> None:
        stream = ops.connect()
        request = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + framing
        await stream.send_all(request + b"\r\n\r\n")
        assert bytes(await stream.receive_some(1000)).startswith(b"HTTP/1.1 100 ")
        chunked = framing.endswith(b"chunked")
        await stream.send_all(b"5\r\nhello\r\n0\r\n\r\n" if chunked else b"hello")
        assert (await response(stream)).endswith(b"\r\n\r\nhello")

    await run(test)


async def test_exception_of_a_page_is_500(autojump_clock: MockClock) -> None:
    """Only the connection of the request ends."""

    async def test(ops: Ops) -> None:
        failed = await exchange(ops, b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")
        assert failed.startswith(b"HTTP/1.1 500 ")
        assert b"a bug of a page" not in failed
        assert ops.stats.rejected == {"error": 1}
        assert (await exchange(ops, GET)).startswith(b"HTTP/1.1 200 ")

    await run(test)


@pytest.mark.parametrize("sent", [b"", GET[:-2], b"POST /echo HTTP/1.1\r\nHost: a\r\n"])
async def test_client_that_leaves_early_is_no_error(autojump_clock: MockClock, sent: bytes) -> None:
    """A client that leaves in the middle of its request frees its place."""

    async def test(ops: Ops) -> None:
        stream = ops.connect()
        await stream.send_all(sent)
        await stream.aclose()
        await trio.sleep(1)
        assert ops.server.connections == 0
        assert not ops.stats.rejected["error"]

    await run(test)


SLOW_BODY = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b""),
        (GET[:-2], b""),
        (GET[:10], b"x"),
        (SLOW_BODY, b"x"),
        (b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ],
    ids=["silent", "half a head", "slow head", "slow body", "slow page"],
)
async def test_connection_is_closed_after_its_time(
    autojump_clock: MockClock, begin: bytes, drop: bytes
) -> None:
    """A total limit: neither single bytes nor a slow page extend it."""

    async def test(ops: Ops) -> None:
        stream = ops.connect()
        await stream.send_all(begin)
        for _ in range(9):
            await trio.sleep(1)
            await stream.send_all(drop)
        assert ops.served == []
        await trio.sleep(1.1)
        assert ops.served == [False]
        assert ops.stats.rejected == {"timeout": 1}

    await run(test)


async def test_client_that_never_reads_is_closed_after_its_time(autojump_clock: MockClock) -> None:
    """Its page leaves memory with the connection."""

    async def test(ops: Ops) -> None:
        stream = ops.connect(capacity=1000)
        await stream.send_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(9)
        assert ops.server.connections == 1
        await trio.sleep(1.1)
        assert ops.served == [False]
        assert ops.stats.rejected == {"timeout": 1}

    await run(test)


async def test_client_that_sends_on_after_its_answer_is_closed(autojump_clock: MockClock) -> None:
    """It has a second to read the response; at most 64 KiB of further bytes are dropped."""

    async def test(ops: Ops) -> None:
        stream = ops.connect()
        await stream.send_all(GET)
        await trio.sleep(2)
        assert ops.served == [True]
        stream = ops.connect()
        await stream.send_all(GET * 10_000)
        await trio.sleep(0.5)
        assert ops.served == [True, True]

    await run(test)


async def test_one_connection_too_many_closes_the_oldest(autojump_clock: MockClock) -> None:
    """A new client gets a response, however many silent connections there are."""

    async def test(ops: Ops) -> None:
        silent = []
        for _ in range(5):
            silent.append(ops.connect())
            await wait_all_tasks_blocked()
        assert (await exchange(ops, GET)).startswith(b"HTTP/1.1 200 ")
        assert ops.served.count(False) == 3
        assert await silent[0].receive_some(1) == b""
        assert ops.stats.rejected == {"max_connections": 3}

    await run(test, OpsLimits(connections=3))


async def test_crowd_from_one_address_takes_no_place_of_others(autojump_clock: MockClock) -> None:
    """Prometheus keeps its connection beside them, though its page is slow."""

    async def test(ops: Ops) -> None:
        other = ops.connect("198.51.100.7")
        await other.send_all(GET[:-2])
        await wait_all_tasks_blocked()
        for _ in range(10):
            ops.connect()
            await wait_all_tasks_blocked()
        await other.send_all(b"\r\n")
        assert (await response(other)).startswith(b"HTTP/1.1 200 ")

    await run(test, OpsLimits(connections=3))


async def test_request_in_single_bytes_wakes_the_server_every_50_ms(
    autojump_clock: MockClock,
) -> None:
    """The bytes of 50 ms are read at once, and the request is served."""

    async def test(ops: Ops) -> None:
        stream = ops.connect()
        begun = trio.current_time()
        for byte in GET:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.005)
        sent = trio.current_time() - begun
        assert (await response(stream)).startswith(b"HTTP/1.1 200 ")
        assert ops.reads < 3 + sent / 0.05 + 3

    await run(test)
