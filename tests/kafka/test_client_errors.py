"""Errors name the broker and the reason."""

from __future__ import annotations

import ssl
import struct

import pytest
import trio
import trustme

from odin_ws.kafka.client import why_unreachable
from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported
from odin_ws.kafka.protocol import (
    OffsetForLeaderEpochRequest,
)
from odin_ws.kafka.security import KafkaSecurity, TlsFiles
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.clients import (
    END,
    KEY,
    SECONDS,
    access_to,
    client_of,
    metadata_fails,
    unused_port,
)
from tests.kafka.loopback_broker import (
    API_VERSIONS,
    METADATA,
    loopback_broker,
)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("name.invalid", 9092, "the name does not resolve"),
        (LOOPBACK, None, "connection refused"),
        ("a..b", 9092, "'a..b' is not a host name"),
        (LOOPBACK, 70_000, "malformed response: port 70000"),
        ("x\0y", 9092, "malformed response: "),
    ],
)
async def test_unusable_address_is_reported(host: str, port: int | None, reason: str) -> None:
    """A broker may advertise anything."""
    async with loopback_broker() as broker, client_of(broker) as client:
        broker.listed = {5: (host, port or unused_port())}
        await client.metadata([])
        with pytest.raises(KafkaUnavailable) as failed:
            await client.send(5, END)
    assert str(failed.value).startswith(f"{client.name(5)}: {reason}")


@pytest.mark.parametrize("key", [API_VERSIONS, METADATA])
@pytest.mark.parametrize("garbage", [b"", b"\xff" * 4, b"\x7f" * 64, b"\0\0\0"])
async def test_malformed_response_is_reported(key: int, garbage: bytes) -> None:
    """In one short line; the connection is closed."""
    async with loopback_broker(garbles={key: garbage}) as broker, client_of(broker) as client:
        with pytest.raises(KafkaUnavailable) as failed:
            await client.metadata([])
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        assert str(failed.value).startswith(f"{broker.address}: malformed response: ")
        assert len(str(failed.value)) < 200
        broker.garbles = {}
        await client.metadata([])


def versions_answer(error: int, *spans: tuple[int, int, int]) -> bytes:
    """A response of version 0 with the API versions; see https://kafka.apache.org/protocol."""
    listed = b"".join(struct.pack("!hhh", *span) for span in spans)
    return struct.pack("!hi", error, len(spans)) + listed


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (versions_answer(35), "UNSUPPORTED_VERSION (35)"),
        (
            versions_answer(35, (18, 3, 4)),
            "UNSUPPORTED_VERSION (35); it supports versions 3 to 4, odin-ws sends 0",
        ),
        (versions_answer(-1), "UNKNOWN_SERVER_ERROR (-1)"),
        # Versions beside an error are not used.
        (versions_answer(41, (3, 0, 12)), "NOT_CONTROLLER (41)"),
    ],
)
async def test_error_for_the_api_versions_is_reported(response: bytes, reason: str) -> None:
    """By its name, not as a broker without any API; the next try begins anew."""
    garbles = {API_VERSIONS: response}
    async with loopback_broker(garbles=garbles) as broker, client_of(broker) as client:
        with pytest.raises(KafkaUnavailable) as failed:
            await client.metadata([])
        assert str(failed.value) == (
            f"{broker.address}: the request for its API versions failed: {reason}"
        )
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        broker.garbles = {}
        await client.metadata([])


async def test_other_protocol_on_the_port_is_reported() -> None:
    """For example an HTTP server."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        security = access_to(f"{LOOPBACK}:{port}")
        await metadata_fails(security, "closed the connection", seconds=2)
        nursery.cancel_scope.cancel()


async def test_unsupported_request_names_broker_and_versions() -> None:
    """The connection stays open."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        with pytest.raises(RequestUnsupported) as failed:
            await client.send(0, OffsetForLeaderEpochRequest({KEY: 1}, {KEY: 1}))
        assert str(failed.value) == (
            f"broker 0 at {broker.address}: the broker supports "
            "versions none of OffsetForLeaderEpoch requests; odin-ws sends 2 to 4"
        )
        await client.send(0, END)
        assert broker.accepted == 1


async def test_untrusted_certificate_is_reported(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With OpenSSL's text."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(LOOPBACK).configure_cert(context)
    other = tmp_path_factory.mktemp("tls") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        security = KafkaSecurity((f"{LOOPBACK}:{port}",), "SSL", tls=TlsFiles(other))
        await metadata_fails(security, "its certificate is not trusted")
        nursery.cancel_scope.cancel()


async def test_unreadable_tls_files_are_reported(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """They may disappear while the service runs."""
    missing = tmp_path_factory.mktemp("tls") / "ca.pem"
    security = KafkaSecurity(("nowhere:1",), "SSL", tls=TlsFiles(missing))
    await metadata_fails(security, r"TLS files cannot be read: .*ca\.pem")


async def test_why_unreachable_names_the_advertised_address() -> None:
    """The bootstrap succeeded, so the broker's advertised.listeners are wrong."""
    async with loopback_broker() as broker:
        assert await why_unreachable(access_to(broker), SECONDS) is None
        broker.listed = {0: (LOOPBACK, broker.port), 1: ("name.invalid", 9092)}
        assert await why_unreachable(access_to(broker), SECONDS) == (
            "broker 1 at name.invalid:9092: the name does not resolve "
            f"(the broker advertises this address; {broker.address} responded)"
        )
    assert await why_unreachable(access_to(broker), SECONDS) == (
        f"{broker.address}: connection refused"
    )
