"""The request has to ask for a WebSocket; it is answered with an upgrade or an HTTP error."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from http import HTTPStatus

import h11
import pytest
from trio.testing import MockClock

from odin_ws.handshake.request import Head, Refusal, check_upgrade, refuse, upgrade
from odin_ws.handshake.request_parser import read_head
from tests.connection.fakes import FakeTransport
from tests.handshake.heads import head_bytes

MAX_BYTES = 2048


async def read(data: bytes) -> Head | None:
    """Read a head that comes in one piece."""
    return await read_head(FakeTransport([data]), max_bytes=MAX_BYTES)


async def checked(head: bytes) -> Refusal:
    """What a head is refused with that could be read."""
    parsed = await read(head)
    assert parsed is not None
    with pytest.raises(Refusal) as caught:
        check_upgrade(parsed)
    return caught.value


# ---- what is asked for


@pytest.mark.parametrize(
    "data",
    [
        head_bytes(),
        head_bytes("/ws?v=0"),
        head_bytes("http://odin.test/ws"),
        head_bytes(Host=""),
        head_bytes(Host="odin.test:8443"),
        head_bytes(Host="[2001:db8::7]:8443"),
        head_bytes("/ws?list=1,2&at=a@b", Accept="a/b, c/d"),
        head_bytes(Upgrade="WebSocket"),
        head_bytes(Upgrade="websocket, h2c"),
        head_bytes(Upgrade="h2c, WebSocket"),
        head_bytes(Upgrade="h2c ,\twebsocket"),
        head_bytes(Upgrade=",websocket,"),
        head_bytes(Upgrade="TLS/1.0, websocket, h2c"),
        head_bytes(Connection="Upgrade, HTTP2-Settings"),
        head_bytes(Connection="\tUpgrade\t,, close"),
        head_bytes(Connection="keep-alive, upgrade"),
        head_bytes(Content_Length="0"),
        head_bytes(Origin="https://elsewhere.test", Sec_WebSocket_Protocol="chat"),
    ],
)
async def test_an_upgrade_is_recognised(autojump_clock: MockClock, data: bytes) -> None:
    """All that RFC 6455 allows a client to write is let through."""
    head = await read(data)
    assert head is not None
    check_upgrade(head)


@pytest.mark.parametrize(
    ("data", "status", "label", "header"),
    [
        (head_bytes("/"), 404, "not_found", None),
        (head_bytes("/ws/"), 404, "not_found", None),
        (head_bytes("/wss"), 404, "not_found", None),
        (head_bytes("/health", Upgrade=None), 404, "not_found", None),
        (head_bytes("//ws"), 404, "not_found", None),
        (head_bytes("//odin.test/ws"), 404, "not_found", None),
        (head_bytes("///ws"), 404, "not_found", None),
        (head_bytes("ws"), 404, "not_found", None),
        (head_bytes("*", method="OPTIONS"), 404, "not_found", None),
        (head_bytes(method="POST"), 405, "bad_method", ("Allow", "GET")),
        (head_bytes(method="HEAD"), 405, "bad_method", ("Allow", "GET")),
        (head_bytes(method="get"), 405, "bad_method", ("Allow", "GET")),
        (head_bytes(Content_Length="1"), 400, "bad_request", None),
        (head_bytes(Transfer_Encoding="chunked"), 400, "bad_request", None),
        (head_bytes(Upgrade=None), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Upgrade="h2c"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Upgrade="h2c, websockets"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Upgrade="websocket h2c"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Connection=None), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Connection="keep-alive"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (head_bytes(Connection="upgraded"), 426, "no_upgrade", ("Upgrade", "websocket")),
        (
            head_bytes(Sec_WebSocket_Version=None),
            426,
            "bad_version",
            ("Sec-WebSocket-Version", "13"),
        ),
        (
            head_bytes(Sec_WebSocket_Version="8"),
            426,
            "bad_version",
            ("Sec-WebSocket-Version", "13"),
        ),
        (head_bytes(Sec_WebSocket_Key=None), 400, "bad_request", None),
        (head_bytes(Sec_WebSocket_Key=""), 400, "bad_request", None),
        (head_bytes(Sec_WebSocket_Key="c2hvcnQ="), 400, "bad_request", None),
        (head_bytes(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400, "bad_request", None),
        (head_bytes(Sec_WebSocket_Key="dGhl IHNhbXBsZSBub25jZQ=="), 400, "bad_request", None),
        (head_bytes(Sec_WebSocket_Key="not base64 at all!!!!!!"), 400, "bad_request", None),
    ],
)
async def test_what_is_no_upgrade_is_refused_with_a_reason(
    autojump_clock: MockClock, data: bytes, status: int, label: str, header: tuple[str, str] | None
) -> None:
    """Status and label say what is wrong, and a header what would be right where there is one."""
    refusal = await checked(data)
    assert (refusal.status, refusal.label) == (status, label)
    assert list(refusal.headers) == ([] if header is None else [header])


async def test_a_client_library_accepts_the_answer(autojump_clock: MockClock) -> None:
    """Whatever a client wrote around its key, the answer is to that key and offers nothing else."""
    head = await read(
        head_bytes(
            "/ws?v=0",
            Host="",
            Connection="keep-alive, Upgrade",
            Sec_WebSocket_Extensions="permessage-deflate; =",
            Sec_WebSocket_Protocol="chat",
        )
    )
    assert head is not None
    check_upgrade(head)
    client = h11.Connection(h11.CLIENT)
    wish = [("Host", "ws"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    client.send(h11.Request(method="GET", target="/ws", headers=wish))
    client.receive_data(upgrade(head))
    answer = client.next_event()
    assert isinstance(answer, h11.InformationalResponse)
    assert answer.status_code == HTTPStatus.SWITCHING_PROTOCOLS
    assert sorted(answer.headers) == [
        (b"connection", b"Upgrade"),
        # The answer to the key of RFC 6455's own example, 1.3.
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"upgrade", b"websocket"),
    ]


# ---- refusing


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(HTTPStatus.NOT_FOUND, "not_found", "nothing here"),
        Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "full", [("Retry-After", "7")]),
        Refusal(HTTPStatus.BAD_REQUEST, "bad_request", "v: 0 or 1, not é"),
    ],
    ids=lambda refusal: refusal.text,
)
def test_a_refusal_is_one_http_answer(refusal: Refusal) -> None:
    """A client's parser reads status, headers and one line of text, and then the end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/ws", headers=[("Host", "odin.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refuse(refusal))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == refusal.status
    assert response.reason == refusal.status.phrase.encode()
    headers = {name.decode(): value.decode() for name, value in response.headers}
    assert headers["connection"] == "close"
    assert headers.get("retry-after") == dict(refusal.headers).get("Retry-After")
    body = client.next_event()
    assert isinstance(body, h11.Data)
    assert body.data.isascii()
    assert len(body.data.splitlines()) == 1
    assert body.data.endswith(b"\n")
    assert isinstance(client.next_event(), h11.EndOfMessage)
    client.receive_data(b"")
    assert isinstance(client.next_event(), h11.ConnectionClosed)
