"""HTTP requests: valid upgrades are accepted, all others get an HTTP error."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import RawClient, request

REJECTED: dict[str, tuple[bytes, int, str]] = {
    "another path": (request("/elsewhere"), 404, "not_found"),
    "a path below": (request("/ws/"), 404, "not_found"),
    "another method": (request(method="POST"), 405, "bad_method"),
    "no upgrade": (request(headers={"Upgrade": None}), 426, "no_upgrade"),
    "another upgrade": (request(headers={"Upgrade": "h2c"}), 426, "no_upgrade"),
    "no Connection": (request(headers={"Connection": "keep-alive"}), 426, "no_upgrade"),
    "an old version": (request(headers={"Sec-WebSocket-Version": "8"}), 426, "bad_version"),
    "no version": (request(headers={"Sec-WebSocket-Version": None}), 426, "bad_version"),
    "no key": (request(headers={"Sec-WebSocket-Key": None}), 400, "bad_request"),
    "a short key": (request(headers={"Sec-WebSocket-Key": "dGhl"}), 400, "bad_request"),
    "no base64": (request(headers={"Sec-WebSocket-Key": "*" * 24}), 400, "bad_request"),
    "no Host": (request(headers={"Host": None}), 400, "bad_request"),
    "a Host that is not ASCII": (request(headers={"Host": "\xff"}), 400, "bad_request"),
    "a Connection that is not ASCII": (
        request(headers={"Connection": "Upgrade, \xff"}),
        400,
        "bad_request",
    ),
    "a body": (request(headers={"Content-Length": "5"}), 400, "bad_request"),
    "a chunked body": (request(headers={"Transfer-Encoding": "chunked"}), 400, "bad_request"),
    "HTTP/1.0": (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "bad_request"),
    "another dialect": (request("/ws?v=2"), 400, "bad_request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "lines that end with LF": (request().replace(b"\r\n", b"\n"), 400, "bad_request"),
    "one line that ends with LF": (request().replace(b"\r\n", b"\n", 1), 400, "bad_request"),
    "a CR within a line": (request(headers={"X": "a\rb"}), 400, "bad_request"),
    "a NUL": (request(headers={"X": "a\0b"}), 400, "bad_request"),
    "a header on two lines": (request(headers={"X": "a\r\n b"}), 400, "bad_request"),
    "a header on two lines with a tab": (request(headers={"X": "a\r\n\tb"}), 400, "bad_request"),
    "a space before the colon": (request(headers={"Content-Length ": "5"}), 400, "bad_request"),
    "a header without a name": (request(headers={"": "x"}), 400, "bad_request"),
    "an empty line first": (b"\r\n" + request(), 400, "bad_request"),
    "two spaces": (request(" /ws"), 400, "bad_request"),
    "a body of two lengths": (
        request(headers={"Content-Length": "0", "content-length": "5"}),
        400,
        "bad_request",
    ),
    "a length twice": (
        request(headers={"Content-Length": "0", "content-length": "0"}),
        400,
        "bad_request",
    ),
    "a length with a sign": (request(headers={"Content-Length": "+0"}), 400, "bad_request"),
    "a length and chunks": (
        request(headers={"Content-Length": "0", "Transfer-Encoding": "chunked"}),
        400,
        "bad_request",
    ),
    "two lengths in one header": (
        request(headers={"Content-Length": "0, 5"}),
        400,
        "bad_request",
    ),
    "a length of other digits": (request(headers={"Content-Length": "0x0"}), 400, "bad_request"),
    "no coding": (request(headers={"Transfer-Encoding": "identity"}), 400, "bad_request"),
    "two codings": (
        request(headers={"Transfer-Encoding": "chunked", "transfer-encoding": "identity"}),
        400,
        "bad_request",
    ),
    "a coding behind a vertical tab": (
        request(headers={"Transfer-Encoding": "\x0bchunked"}),
        400,
        "bad_request",
    ),
    "another coding": (request(headers={"Transfer-Encoding": "xchunked"}), 400, "bad_request"),
    "two Hosts": (request(headers={"host": "test"}), 400, "bad_request"),
    "two keys": (
        request(headers={"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}),
        400,
        "bad_request",
    ),
    "two versions": (request(headers={"sec-websocket-version": "13"}), 400, "bad_request"),
    "two origins": (request(headers={"Origin": "a", "origin": "b"}), 400, "bad_request"),
    "two tokens": (
        request(headers={"Authorization": "Bearer a", "authorization": "Bearer b"}),
        400,
        "bad_request",
    ),
    "a target of another server": (request("http://other/ws"), 400, "bad_request"),
    "a target with a user": (request("http://me@test/ws"), 400, "bad_request"),
    "a target of another scheme": (request("file://test/ws"), 400, "bad_request"),
    "a target without a slash": (request("ws"), 404, "not_found"),
    "a target with a scheme alone": (request("http:/ws"), 400, "bad_request"),
    "CONNECT": (request("test:443", method="CONNECT"), 400, "bad_request"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "bad_request"),
    "200 headers": (request(headers={f"X-{n}": "" for n in range(200)}), 431, "header_too_large"),
    "a head of 20,000 bytes": (request(headers={"X": "x" * 20_000}), 431, "header_too_large"),
    "an endless head": (request(headers={"X": "x" * 90_000})[:-4], 431, "header_too_large"),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_invalid_upgrade_gets_http_error_and_is_counted(
    odin_scenario: Scenario, case: str
) -> None:
    """The response has a status and one line of plain text; then the stream ends."""
    data, status, label = REJECTED[case]
    client = await RawClient.dial(odin_scenario, data)
    head, *fields = (await client.head()).decode("ascii").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert headers["Connection"] == "close"
    assert headers["Content-Type"].startswith("text/plain")
    body = await client.rest_bytes()
    assert body.count(b"\n") == 1
    assert body.endswith(b"\n")
    assert len(body) == int(headers["Content-Length"])
    server = odin_scenario.service.server
    assert server.admission.rejections == Counter({label: 1})
    assert (server.stats.opened, server.stats.errors, server.admission.active) == (0, 0, 0)


@pytest.mark.parametrize(
    "first",
    [
        request("/elsewhere"),
        request(headers={"Upgrade": None}),
        request(headers={"Content-Length": str(len(request()))}),
        request(headers={"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
        request(method="POST", headers={"Content-Length": "0"}),
    ],
    ids=["another path", "no upgrade", "a body", "a chunked body", "another method"],
)
async def test_bytes_after_rejected_request_are_not_answered(
    odin_scenario: Scenario, first: bytes
) -> None:
    """A proxy would send a second response to another client."""
    client = await RawClient.dial(odin_scenario, first + request() * 2)
    response = await client.rest_bytes()
    assert response.startswith(b"HTTP/1.1 4")
    assert response.count(b"HTTP/1.1") == 1
    server = odin_scenario.service.server
    assert server.admission.rejections.total() == 1
    assert (server.stats.opened, server.stats.errors) == (0, 0)


ALLOWED: dict[str, bytes] = {
    "the usual": request(),
    "words in any case": request(headers={"Upgrade": "WebSocket", "Connection": "UPGRADE"}),
    "several words": request(headers={"Connection": "keep-alive, Upgrade"}),
    "a list of protocols": request(headers={"Upgrade": "websocket, h2c"}),
    "a list of protocols on two lines": request(headers={"upgrade": "h2c"}),
    "a city in Latin-1": request(headers={"CF-IPCity": "D\xfcsseldorf"}),
    "a cookie of any bytes": request(headers={"Cookie": "a=\x80\xff; b=\xc3\xa9"}),
    "two Connection headers": request(headers={"connection": "keep-alive"}),
    "a strange host": request(headers={"Host": "xn--999999999"}),
    "an IPv6 host": request(headers={"Host": "[::1]:3002"}),
    "extensions and subprotocols": request(
        headers={
            "Sec-WebSocket-Extensions": "x-webkit-deflate-frame, permessage-deflate; unknown",
            "Sec-WebSocket-Protocol": "other, another",
        }
    ),
    "a query": request("/ws?v=1&token=a%20b&v=1"),
    "an absolute target": request("http://test/ws"),
    "a head of 15,000 bytes": request(headers={"Cookie": "x" * 15_000}),
    "50 headers": request(headers={f"X-{number}": "y" for number in range(50)}),
}


@pytest.mark.parametrize("case", ALLOWED)
async def test_valid_upgrade_is_accepted(odin_scenario: Scenario, case: str) -> None:
    """101 with the key's answer (RFC 6455, 1.3) and no extension; commands work."""
    client = await RawClient.dial(odin_scenario, ALLOWED[case])
    head = (await client.head()).decode("ascii").lower().split("\r\n")
    assert head[0].startswith("http/1.1 101 ")
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert not any("extensions" in line or "protocol:" in line for line in head)
    await client.command("heartbeat")
    assert (await client.next()).json["type"] == "pong"


async def test_head_later_than_5_s_is_answered_408(odin_scenario: Scenario) -> None:
    """Bytes that arrive meanwhile do not extend the time."""
    client = await RawClient.dial(odin_scenario, b"")
    started = trio.current_time()
    for byte in request()[:9]:
        await client.stream.send_all(bytes((byte,)))
        await trio.sleep(0.6)
    assert (await client.head()).startswith(b"HTTP/1.1 408 ")
    assert trio.current_time() - started < 6


async def test_300_connections_at_once_are_accepted(odin_scenario: Scenario) -> None:
    """That is many more than are upgraded at a time."""
    clients = [await RawClient.dial(odin_scenario, request()) for _ in range(300)]
    for client in clients:
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert odin_scenario.service.server.admission.active == 300


@pytest.mark.odin_settings(ws_max_connections=2)
async def test_connection_is_accepted_after_another_closed(odin_scenario: Scenario) -> None:
    """With WS_MAX_CONNECTIONS=2 the third one is rejected until one closes."""
    first = await RawClient.open(odin_scenario)
    await RawClient.open(odin_scenario)
    rejected = await RawClient.dial(odin_scenario, request())
    assert b" 503 " in await rejected.head()
    await first.send(8, b"\x03\xe8")
    await first.rest()
    await RawClient.open(odin_scenario)
    assert odin_scenario.service.server.admission.rejections == Counter({"max_connections": 1})


@pytest.mark.odin_settings(ws_max_connections=2)
async def test_connections_before_upgrade_do_not_count_to_max_connections(
    odin_scenario: Scenario,
) -> None:
    """Silent connections and rejected requests keep no client out."""
    for _ in range(5):
        await RawClient.dial(odin_scenario, b"GET")
        await RawClient.dial(odin_scenario, request("/elsewhere"))
    for _ in range(2):
        await RawClient.open(odin_scenario)
