"""The order of the handshake: PROXY header, TLS, HTTP head; each rejection gets its answer."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import struct
from http import HTTPStatus
from ipaddress import ip_address, ip_network

import pytest
import trio
from trio.testing import MockClock

from odin_ws.address import Address
from odin_ws.canary.credential import CANARY_HEADER, CanaryCredential
from odin_ws.canary.probe import PROXY_LOCAL
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import HandshakeLimits, Handshaker
from odin_ws.handshake.rate_limiter import PerAddressLimit, RateLimiter, RateLimits
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.transport import Transport
from odin_ws.settings import Secret
from odin_ws.testing.memory_connection import ClientStream, transport_pair
from tests.handshake.requests import max_header_bytes
from tests.listener.certificates import HOST, Authority

PROXY = "10.0.0.1"
CLIENT = "203.0.113.5"
SECONDS = 5.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One for all tests here: keys take time."""
    return Authority(tmp_path_factory.mktemp("entrance"))


class HandshakeServer:
    """An entrance over TLS or without, behind a proxy or not, and a caller of it."""

    def __init__(
        self,
        authority: Authority | None,
        *,
        proxied: bool = False,
        rate: float = 0,
        canary: CanaryCredential | None = None,
    ) -> None:
        self.handshaker = Handshaker(
            HandshakeLimits(
                max_pending=2,
                max_header_bytes=4096,
                timeout_seconds=SECONDS,
                trusted_proxies=TrustedProxies([ip_network("10.0.0.0/8")] * proxied),
                proxy_protocol=proxied,
            ),
            RateLimiter(RateLimits(rate_per_address=PerAddressLimit(rate))),
            None if authority is None else Certificate(authority.chain, authority.key),
            canary,
        )
        self.met: list[tuple[str, HandshakeRequest | HTTPRejection | None]] = []
        self.canaries = 0

    async def serve(self, wire: Transport, peer: str) -> None:
        """Meet one caller."""
        async with self.handshaker.accept(wire, peer) as incoming:
            try:
                request = await self.handshaker.read_request(incoming)
                self.met.append((incoming.peer, request))
                self.canaries += incoming.is_canary
            except HTTPRejection as rejection:
                self.met.append((incoming.peer, rejection))
                await self.handshaker.reject(incoming, rejection)
        wire.close()


def proxy_header() -> bytes:
    """For CLIENT, in one family of two."""
    rest = ip_address(CLIENT).packed * 2 + struct.pack("!HH", 1, 2)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(rest)) + rest


async def say_hello(stream: ClientStream, authority: Authority) -> trio.SSLStream[ClientStream]:
    """TLS on a stream."""
    client = trio.SSLStream(
        stream, authority.client_context(), server_hostname=HOST, https_compatible=True
    )
    await client.do_handshake()
    return client


async def test_proxy_header_precedes_tls(authority: Authority, autojump_clock: MockClock) -> None:
    """Proxies that pass TLS through cannot write into it."""
    door = HandshakeServer(authority, proxied=True)
    wire, stream = transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, wire, PROXY)
        await stream.send_all(proxy_header())
        client = await say_hello(stream, authority)
        await client.send_all(max_header_bytes())
    ((peer, request),) = door.met
    assert isinstance(request, HandshakeRequest)
    assert request.path == "/ws"
    assert peer == CLIENT


async def test_address_over_its_rate_is_closed_before_tls(
    authority: Authority, autojump_clock: MockClock
) -> None:
    """It could not read an answer there: it reads the end of the connection."""
    door = HandshakeServer(authority, proxied=False, rate=1)
    labels: list[str] = []
    for _ in range(7):
        wire, stream = transport_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.serve, wire, CLIENT)
            if len(labels) < 5:
                await (await say_hello(stream, authority)).send_all(max_header_bytes())
            else:
                assert await stream.receive_some() == b""
                stream.break_off()
        _, found = door.met[-1]
        labels.append(found.label if isinstance(found, HTTPRejection) else "")
    assert labels == [""] * 5 + ["connect_rate_per_ip"] * 2


@pytest.mark.parametrize("greeted", [False, True])
async def test_silent_connection_is_closed_after_the_timeout(
    authority: Authority, autojump_clock: MockClock, *, greeted: bool
) -> None:
    """Before TLS and after it; the answer uses the negotiated encryption."""
    door = HandshakeServer(authority, proxied=False)
    wire, stream = transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, wire, CLIENT)
        if greeted:
            response = await (await say_hello(stream, authority)).receive_some()
        else:
            response = await stream.receive_some()
        assert trio.current_time() == SECONDS
        stream.break_off()
    ((_, rejection),) = door.met
    assert isinstance(rejection, HTTPRejection)
    assert rejection.label == ("handshake_timeout" if greeted else "tls_failed")
    assert response.startswith(b"HTTP/1.1 408 ") if greeted else not response


async def test_limit_of_handshakes_closes_the_oldest(
    authority: Authority, autojump_clock: MockClock
) -> None:
    """At once, also before TLS, without an answer."""
    door = HandshakeServer(authority, proxied=False)
    streams = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            wire, stream = transport_pair()
            nursery.start_soon(door.serve, wire, CLIENT)
            streams.append(stream)
            await trio.sleep(1)
        assert await streams[0].receive_some() == b""
        ((_, rejection),) = door.met
        assert isinstance(rejection, HTTPRejection)
        assert rejection.label == "max_pending_handshakes"
        assert len(door.handshaker.limiter) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("begun", [b"", b"GET", max_header_bytes()[:-1]])
async def test_slow_head_is_answered_408(autojump_clock: MockClock, begun: bytes) -> None:
    """After the timeout, for no bytes or an incomplete head."""
    door = HandshakeServer(None)
    wire, stream = transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, wire, CLIENT)
        if begun:
            await stream.send_all(begun)
        response = await stream.receive_some()
        assert trio.current_time() == SECONDS
        stream.break_off()
    ((_, rejection),) = door.met
    assert isinstance(rejection, HTTPRejection)
    assert (rejection.status, rejection.label) == (HTTPStatus.REQUEST_TIMEOUT, "handshake_timeout")
    assert response.startswith(b"HTTP/1.1 408 ")


async def test_trickled_bytes_do_not_extend_the_head_timeout(autojump_clock: MockClock) -> None:
    """The timeout is for the whole head."""
    door = HandshakeServer(None)
    wire, stream = transport_pair()

    async def trickle() -> None:
        for byte in max_header_bytes():
            await stream.send_all(bytes((byte,)))
            await trio.sleep(SECONDS / 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, wire, CLIENT)
        nursery.start_soon(trickle)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() == SECONDS
        nursery.cancel_scope.cancel()


LOCAL = "127.0.0.1"
CANARY = CanaryCredential(Secret("5" * 64), Address(LOCAL, 3002), frozenset({LOCAL}))


async def met(
    door: HandshakeServer, peer: str, *parts: bytes
) -> HandshakeRequest | HTTPRejection | None:
    """What comes of a caller that sends these bytes."""
    wire, stream = transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, wire, peer)
        await stream.send_all(b"".join(parts))
        await stream.send_eof()
    return door.met[-1][1]


def canary_head(secret: str = CANARY.secret.reveal()) -> bytes:
    """What the canary asks for."""
    return max_header_bytes(**{CANARY_HEADER: secret})


async def test_canary_connects_without_the_required_proxy() -> None:
    """It is no trusted proxy; its request has the canary's credential."""
    door = HandshakeServer(None, proxied=True, canary=CANARY)
    assert isinstance(await met(door, LOCAL, PROXY_LOCAL, canary_head()), HandshakeRequest)
    assert door.canaries == 1


@pytest.mark.parametrize(
    ("peer", "parts"),
    [
        (LOCAL, (PROXY_LOCAL, max_header_bytes())),
        (LOCAL, (PROXY_LOCAL, canary_head("4" * 64))),
        (LOCAL, (proxy_header(), canary_head())),
        (LOCAL, (canary_head(),)),
        (CLIENT, (PROXY_LOCAL, canary_head())),
    ],
)
async def test_other_clients_require_a_trusted_proxy(peer: str, parts: tuple[bytes]) -> None:
    """Without the credential, with another client's address, or from another host."""
    door = HandshakeServer(None, proxied=True, canary=CANARY)
    rejection = await met(door, peer, *parts)
    assert isinstance(rejection, HTTPRejection)
    assert rejection.label == "bad_proxy_header"
    assert door.canaries == 0


async def test_client_behind_a_proxy_is_never_the_canary() -> None:
    """The proxy passes on any header of its client."""
    door = HandshakeServer(None, proxied=True, canary=CANARY)
    assert isinstance(await met(door, PROXY, proxy_header(), canary_head()), HandshakeRequest)
    assert door.canaries == 0


async def test_rate_of_the_canarys_address_is_checked_after_the_head() -> None:
    """All its other connections count; the canary's do not."""
    door = HandshakeServer(None, rate=1, canary=CANARY)
    for _ in range(5):
        assert isinstance(await met(door, LOCAL, max_header_bytes()), HandshakeRequest)
    for _ in range(5):
        rejection = await met(door, LOCAL, max_header_bytes())
        assert isinstance(rejection, HTTPRejection)
        assert rejection.label == "connect_rate_per_ip"
        assert isinstance(await met(door, LOCAL, canary_head()), HandshakeRequest)
    assert door.canaries == 5
