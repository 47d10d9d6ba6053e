"""A WebSocket request is answered with an upgrade, any other with an HTTP error."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from http import HTTPStatus

import h11
import pytest
from trio.testing import MockClock

from odin_ws.handshake.request import (
    HandshakeRequest,
    HTTPRejection,
    check_upgrade,
    rejection_response,
    upgrade_response,
)
from odin_ws.handshake.request_parser import read_request
from tests.connection.fakes import FakeTransport
from tests.handshake.requests import max_header_bytes

MAX_BYTES = 2048


async def read(data: bytes) -> HandshakeRequest | None:
    """Read a head that comes in one piece."""
    return await read_request(FakeTransport([data]), max_bytes=MAX_BYTES)


async def checked(request: bytes) -> HTTPRejection:
    """What a head is rejected with that could be read."""
    parsed = await read(request)
    assert parsed is not None
    with pytest.raises(HTTPRejection) as caught:
        check_upgrade(parsed)
    return caught.value


# ---- what is asked for


@pytest.mark.parametrize(
    "data",
    [
        max_header_bytes(),
        max_header_bytes("/ws?v=0"),
        max_header_bytes("http://odin.test/ws"),
        max_header_bytes(Host=""),
        max_header_bytes(Host="odin.test:8443"),
        max_header_bytes(Host="[2001:db8::7]:8443"),
        max_header_bytes("/ws?list=1,2&at=a@b", Accept="a/b, c/d"),
        max_header_bytes(Upgrade="WebSocket"),
        max_header_bytes(Upgrade="websocket, h2c"),
        max_header_bytes(Upgrade="h2c, WebSocket"),
        max_header_bytes(Upgrade="h2c ,\twebsocket"),
        max_header_bytes(Upgrade=",websocket,"),
        max_header_bytes(Upgrade="TLS/1.0, websocket, h2c"),
        max_header_bytes(Connection="Upgrade, HTTP2-Settings"),
        max_header_bytes(Connection="\tUpgrade\t,, close"),
        max_header_bytes(Connection="keep-alive, upgrade"),
        max_header_bytes(Content_Length="0"),
        max_header_bytes(Origin="https://elsewhere.test", Sec_WebSocket_Protocol="chat"),
    ],
)
async def test_valid_upgrade_is_accepted(autojump_clock: MockClock, data: bytes) -> None:
    """In every form that RFC 6455 allows."""
    request = await read(data)
    assert request is not None
    check_upgrade(request)


@pytest.mark.parametrize(
    ("data", "status", "label", "header"),
    [
        (max_header_bytes("/"), 404, "not_found", None),
        (max_header_bytes("/ws/"), 404, "not_found", None),
        (max_header_bytes("/wss"), 404, "not_found", None),
        (max_header_bytes("/health", Upgrade=None), 404, "not_found", None),
        (max_header_bytes("//ws"), 404, "not_found", None),
        (max_header_bytes("//odin.test/ws"), 404, "not_found", None),
        (max_header_bytes("///ws"), 404, "not_found", None),
        (max_header_bytes("ws"), 404, "not_found", None),
        (max_header_bytes("*", method="OPTIONS"), 404, "not_found", None),
        (max_header_bytes(version="HTTP/1.0"), 400, "bad_request", None),
        (max_header_bytes(version="HTTP/1.0", Host=None), 400, "bad_request", None),
        (max_header_bytes(method="POST"), 405, "bad_method", ("Allow", "GET")),
        (max_header_bytes(method="HEAD"), 405, "bad_method", ("Allow", "GET")),
        (max_header_bytes(method="get"), 405, "bad_method", ("Allow", "GET")),
        (max_header_bytes(Content_Length="1"), 400, "bad_request", None),
        (max_header_bytes(Transfer_Encoding="chunked"), 400, "bad_request", None),
        (max_header_bytes(Upgrade=None), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Upgrade="h2c"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Upgrade="h2c, websockets"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Upgrade="websocket h2c"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Connection=None), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Connection="keep-alive"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (max_header_bytes(Connection="upgraded"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (
            max_header_bytes(Sec_WebSocket_Version=None),
            426,
            "bad_version",
            ("Sec-WebSocket-Version", "13"),
        ),
        (
            max_header_bytes(Sec_WebSocket_Version="8"),
            426,
            "bad_version",
            ("Sec-WebSocket-Version", "13"),
        ),
        (max_header_bytes(Sec_WebSocket_Key=None), 400, "bad_request", None),
        (max_header_bytes(Sec_WebSocket_Key=""), 400, "bad_request", None),
        (max_header_bytes(Sec_WebSocket_Key="c2hvcnQ="), 400, "bad_request", None),
        (max_header_bytes(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400, "bad_request", None),
        (max_header_bytes(Sec_WebSocket_Key="dGhl IHNhbXBsZSBub25jZQ=="), 400, "bad_request", None),
        (max_header_bytes(Sec_WebSocket_Key="not base64 at all!!!!!!"), 400, "bad_request", None),
    ],
)
async def test_invalid_upgrade_is_rejected_with_a_reason(
    autojump_clock: MockClock, data: bytes, status: int, label: str, header: tuple[str, str] | None
) -> None:
    """By status and label, and by a header with the right value where one exists."""
    rejection = await checked(data)
    assert (rejection.status, rejection.label) == (status, label)
    assert list(rejection.headers) == ([] if header is None else [header])


async def test_client_library_accepts_the_answer(autojump_clock: MockClock) -> None:
    """Whatever surrounds the key, the answer is for that key and selects no extension unasked."""
    request = await read(
        max_header_bytes(
            "/ws?v=0",
            Host="",
            Connection="keep-alive, Upgrade",
            Sec_WebSocket_Extensions="permessage-deflate; =",
            Sec_WebSocket_Protocol="chat",
        )
    )
    assert request is not None
    check_upgrade(request)
    client = h11.Connection(h11.CLIENT)
    wish = [("Host", "ws"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    client.send(h11.Request(method="GET", target="/ws", headers=wish))
    client.receive_data(upgrade_response(request))
    response = client.next_event()
    assert isinstance(response, h11.InformationalResponse)
    assert response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
    assert sorted(response.headers) == [
        (b"connection", b"Upgrade"),
        # The answer to the key of RFC 6455's own example, 1.3.
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"upgrade", b"websocket"),
    ]


# ---- rejecting


@pytest.mark.parametrize(
    "rejection",
    [
        HTTPRejection(HTTPStatus.NOT_FOUND, "not_found", "nothing here"),
        HTTPRejection(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "full", [("Retry-After", "7")]),
        HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_request", "v: must be 0 or 1, not é"),
    ],
    ids=lambda rejection: rejection.text,
)
def test_rejection_is_one_http_response(rejection: HTTPRejection) -> None:
    """A client's parser reads status, headers, one line of text, and the end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/ws", headers=[("Host", "odin.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(rejection_response(rejection))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == rejection.status
    assert response.reason == rejection.status.phrase.encode()
    headers = {name.decode(): value.decode() for name, value in response.headers}
    assert headers["connection"] == "close"
    assert headers.get("retry-after") == dict(rejection.headers).get("Retry-After")
    body = client.next_event()
    assert isinstance(body, h11.Data)
    assert body.data.isascii()
    assert len(body.data.splitlines()) == 1
    assert body.data.endswith(b"\n")
    assert isinstance(client.next_event(), h11.EndOfMessage)
    client.receive_data(b"")
    assert isinstance(client.next_event(), h11.ConnectionClosed)
