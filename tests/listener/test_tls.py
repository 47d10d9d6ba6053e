"""TLS whose send never waits: nothing is lost, duplicated or buffered without limit."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.connection.send_queue import SendQueue
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.tls import HandshakeFailed, TlsTransport, open_tls
from odin_ws.testing.memory_connection import ClientStream, transport_pair
from tests.connection.fakes import FakeTransport
from tests.hypothesis_examples import examples
from tests.listener.certificates import HOST, Authority
from tests.virtual_time import in_virtual_time

Adjust = Callable[[ssl.SSLContext], None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One for all tests here: keys take time."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    """The server's."""
    return Certificate(authority.chain, authority.key)


@asynccontextmanager
async def connected(
    authority: Authority,
    certificate: Certificate,
    *,
    capacity: int = 1 << 20,
    adjust: Adjust | None = None,
) -> AsyncIterator[tuple[TlsTransport, trio.SSLStream[ClientStream]]]:
    """Both ends of a connection that has been agreed on; `capacity` as of a pipe."""
    wire, stream = transport_pair(capacity)
    context = authority.client_context()
    if adjust is not None:
        adjust(context)
    client = trio.SSLStream(stream, context, server_hostname=HOST, https_compatible=True)
    async with open_tls(wire, certificate.context) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            await server.handshake()
        yield server, client


async def read_all(client: trio.SSLStream[ClientStream], size: int) -> bytes:
    """So many bytes, or what comes before the end."""
    data = b""
    while len(data) < size and (more := await client.receive_some()):
        data += more
    return data


async def test_handshake_and_transfer(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """The newest version, HTTP/1.1 only, and bytes in both directions."""

    def offer(context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2", "http/1.1"])

    async with connected(authority, certificate, adjust=offer) as (server, client):
        assert server.send_nowait(b"to the client") == 13
        assert await client.receive_some() == b"to the client"
        await client.send_all(b"to the server")
        assert await server.receive_some(6) == b"to the"
        assert await server.receive_some(100) == b" server"
        assert client.version() == "TLSv1.3"
        assert client.selected_alpn_protocol() == "http/1.1"


async def test_tls_before_1_2_is_rejected(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """During the handshake."""

    def only(version: ssl.TLSVersion) -> Adjust:
        def adjust(context: ssl.SSLContext) -> None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version

        return adjust

    async with connected(authority, certificate, adjust=only(ssl.TLSVersion.TLSv1_2)):
        pass
    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        pytest.RaisesGroup(HandshakeFailed, flatten_subgroups=True),
    ):
        async with connected(authority, certificate, adjust=only(ssl.TLSVersion.TLSv1_1)):
            pass


@pytest.mark.parametrize(
    ("data", "plain_http"),
    [
        (b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"\x16\x03\x01\x00\x05hello", False),
        (b"\x00" * 100, False),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False),
    ],
)
async def test_plain_http_is_recognized(
    certificate: Certificate, autojump_clock: MockClock, data: bytes, *, plain_http: bool
) -> None:
    """It can get an HTTP response."""
    wire = FakeTransport([data, b""])
    with pytest.RaisesGroup(HandshakeFailed) as caught:
        async with open_tls(wire, certificate.context) as server:
            await server.handshake()
    (error,) = caught.value.exceptions
    assert isinstance(error, HandshakeFailed)
    assert error.plain_http == plain_http


async def test_unsent_bytes_are_buffered_for_one_record_only(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """Further bytes are not taken until it is sent, and all arrive in order."""
    async with connected(authority, certificate, capacity=1000) as (server, client):
        data = bytes(range(256)) * 1000
        taken = server.send_nowait(data)
        assert taken == 16 << 10
        assert server.send_nowait(data[taken:]) == 0
        # What waits to be sent counts as unacknowledged, with what TLS adds.
        assert taken < server.unacknowledged() < taken + 1000
        async with trio.open_nursery() as nursery:

            async def send_rest() -> None:
                sent = taken
                while sent < len(data):
                    await server.wait_writable()
                    sent += server.send_nowait(data[sent:])

            nursery.start_soon(send_rest)
            assert await read_all(client, len(data)) == data


async def test_close_sends_buffered_bytes_first(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """Then the peer gets the end of the stream."""
    async with connected(authority, certificate, capacity=3000) as (server, client):
        assert server.send_nowait(b"x" * 10_000) == 10_000
        server.send_eof()
        server.send_eof()
        assert await read_all(client, 20_000) == b"x" * 10_000
        # What still comes is told and not looked at, however broken it is.
        await client.transport_stream.send_all(b"no TLS")
        assert await server.receive_some(100)


async def test_close_has_a_timeout(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """A peer that does not read does not block it."""
    started = trio.current_time()
    async with connected(authority, certificate, capacity=3000) as (server, _):
        server.send_nowait(b"x" * 10_000)
    assert trio.current_time() - started == 5


@pytest.mark.parametrize("goodbye", [True, False])
async def test_end_of_stream_is_returned(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock, *, goodbye: bool
) -> None:
    """With or without a close_notify."""
    async with (
        connected(authority, certificate) as (server, client),
        trio.open_nursery() as nursery,
    ):
        if goodbye:
            nursery.start_soon(client.unwrap)
        else:
            await client.transport_stream.send_eof()
        assert await server.receive_some(100) == b""
        server.send_eof()


async def test_garbage_ends_the_connection(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """Bytes that the peer did not send are not read."""
    async with connected(authority, certificate) as (server, client):
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some(100)


async def test_lost_connection_is_raised(
    authority: Authority, certificate: Certificate, autojump_clock: MockClock
) -> None:
    """At once, or when buffered bytes could not be sent."""
    async with connected(authority, certificate, capacity=3000) as (server, client):
        server.send_nowait(b"x" * 10_000)
        client.transport_stream.break_off()
        await server.wait_writable()
        with pytest.raises(trio.BrokenResourceError):
            server.send_nowait(b"more")


@settings(max_examples=examples(40))
@given(st.lists(st.binary(min_size=1, max_size=60_000), max_size=8), st.integers(1, 40_000))
def test_send_queue_over_tls_loses_and_duplicates_nothing(
    authority: Authority, certificate: Certificate, writes: list[bytes], capacity: int
) -> None:
    """Whatever the kernel takes."""

    async def main(_: MockClock) -> None:
        async with (
            connected(authority, certificate, capacity=capacity) as (server, client),
            trio.open_nursery() as nursery,
        ):
            send_queue = SendQueue(
                server,
                limit=1 << 30,
                grace=1000,
                wake=lambda: nursery.start_soon(send_queue.drain),
                slow=lambda: None,
                idle=lambda: None,
            )
            for data in writes:
                send_queue.write(data)
                await wait_all_tasks_blocked()
            send_queue.finish(b"the end", flush=True)
            expected = b"".join(writes) + b"the end"
            assert await read_all(client, len(expected)) == expected

    in_virtual_time(main)
