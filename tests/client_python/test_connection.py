"""The client's WebSocket: handshake, frames, and a timeout for each wait."""

from __future__ import annotations

import ssl

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.protocol.frames import close_frame, text_frame
from odin_ws_client import (
    ConnectFailed,
    Disconnected,
    HandshakeRejected,
    InvalidUrl,
    Message,
    ProtocolViolated,
    Subscribed,
)
from odin_ws_client.core import websocket
from odin_ws_client.trio import open_client
from tests.client_python.fake import (
    TRADES,
    FakeServer,
    answer_by_hand,
    ending,
    message_text,
    take,
    take_offsets,
)

ACK = orjson.dumps(
    {
        "type": "subscription_ack",
        "id": 1,
        "subscribed": ["*.trade"],
        "rejected": [],
        "positions": {},
        "categories": {"trade": "odin.trades"},
    }
)


async def upgraded(server: FakeServer, more: bytes = b"") -> trio.abc.Stream:
    """The server's end of a connection on which frames are written by hand."""
    stream = await server.dialled()
    await answer_by_hand(stream, more)
    return stream


async def test_request_has_host_path_and_query_of_the_url(server: FakeServer) -> None:
    """A user name in the URL is not sent."""
    url = "ws://me:secret@odin.test:81/deep/ws?v=1&x=%20#part"
    async with open_client(url, TRADES, connect=server.connect):
        stream = await server.dialled()
        head = bytes(await stream.receive_some())
    assert head.startswith(b"GET /deep/ws?v=1&x=%20 HTTP/1.1\r\n")
    assert b"\r\nHost: odin.test:81\r\n" in head
    assert b"secret" not in head


@pytest.mark.parametrize(
    "url",
    [
        "http://odin.test/ws",
        "odin.test/ws",
        "ws:///ws",
        "ws://odin.test:port/ws",
        "ws://odin.test:99999/ws",
        "ws://odin.test/a b",
        "ws://odin.test/\u00fc",
        "ws://od\u00edn.test/ws",
        "ws://[::1/ws",
    ],
)
def test_invalid_url_is_an_error_at_once(url: str) -> None:
    """Before a connection is attempted."""
    with pytest.raises(InvalidUrl):
        open_client(url, TRADES)


async def test_frames_sent_with_the_handshake_are_read(server: FakeServer) -> None:
    """Frames in the same segment as the response are not lost."""
    frames = text_frame(ACK) + text_frame(message_text(1, "0-1").encode())
    async with server.follow() as client:
        nothing = text_frame(message_text(2, "0-2").encode())  # behind a close
        await upgraded(server, frames + close_frame(1012, "again") + nothing)
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [1]
        assert (await take(client, Disconnected)).reason == "again"


async def test_response_may_have_any_bytes_in_unused_headers(server: FakeServer) -> None:
    """CDNs and gateways add such headers."""
    async with server.follow() as client:
        stream = await server.dialled()
        headers = b"Server: caf\xe9\r\nSet-Cookie: a=\xff\x80; Path=/\r\n"
        await answer_by_hand(stream, text_frame(ACK), headers)
        await take(client, Subscribed)


async def test_close_without_a_code_is_resumed(server: FakeServer) -> None:
    """The client answers it and reconnects."""
    async with server.follow() as client:
        stream = await upgraded(server, text_frame(ACK) + b"\x88\x00")
        await take(client, Subscribed)
        assert await take(client, Disconnected) == Disconnected(1005, "", 0.2)
        assert bytes(await stream.receive_some())[0] in {0x81, 0x88}


@pytest.mark.parametrize("code", [1001, 1012, 1013, 1014, 3000, 3003, 3999, 4999])
@pytest.mark.parametrize("together", [True, False])
async def test_registered_close_code_is_reported_and_echoed(
    server: FakeServer, code: int, *, together: bool
) -> None:
    """Also in the same segment as the handshake response, as from a gateway."""
    close = close_frame(code, "bad gateway")
    async with server.follow() as client:
        stream = await upgraded(server, close if together else text_frame(ACK))
        if not together:
            await take(client, Subscribed)
            for byte in close:
                await stream.send_all(bytes([byte]))
        assert await take(client, Disconnected) == Disconnected(code, "bad gateway", 0.2)
        received = b""
        while data := await stream.receive_some():
            received += data
        assert received[-19:-17] == b"\x88\x8d"
        key, sent = received[-17:-13], received[-13:-11]
        assert bytes(a ^ b for a, b in zip(sent, key[:2], strict=True)) == code.to_bytes(2, "big")


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_invalid_close_code_is_a_protocol_error(server: FakeServer, code: int) -> None:
    """The client ends the connection itself, and reconnects."""
    async with server.follow() as client:
        await upgraded(server, b"\x88\x02" + code.to_bytes(2, "big"))
        assert (await take(client, Disconnected)).code == 1002


async def test_fragmented_message_is_read(server: FakeServer) -> None:
    """In several frames with a ping between, split anywhere by the network."""
    text = message_text(1, "0-1", padding="\u20ac" * 200).encode()
    frames = (
        text_frame(ACK)
        + bytes((0x01, 100))
        + text[:100]
        + b"\x89\x02hi"
        + bytes((0x00, 100))
        + text[100:200]
        + bytes((0x80, 126))
        + len(text[200:]).to_bytes(2, "big")
        + text[200:]
        + text_frame(message_text(2, "0-2").encode())
    )
    async with server.follow() as client:
        stream = await upgraded(server)
        for number in range(0, len(frames), 7):
            await stream.send_all(frames[number : number + 7])
            await wait_all_tasks_blocked()
        await take(client, Subscribed)
        assert (await take(client, Message)).text == text.decode()
        assert await take_offsets(client, 1) == [2]
        output = bytes(await stream.receive_some())
        assert b"\x8a\x82" in output  # a pong of two bytes, masked


@pytest.mark.parametrize(
    ("frame", "code", "permanent"),
    [
        (b"\x82\x02{}", 1003, True),  # binary
        (b"\x81\x82aaaa{}", 1002, False),  # masked
        (b"\xc1\x02{}", 1002, False),  # a reserved bit
        (b"\x81\x02\xff\xff", 1007, False),  # not UTF-8
    ],
)
async def test_unreadable_frames_end_the_connection(
    server: FakeServer, frame: bytes, code: int, *, permanent: bool
) -> None:
    """Garbled frames are resumed; valid frames of another protocol are an error."""
    async with server.follow() as client:
        stream = await upgraded(server, text_frame(ACK))
        await take(client, Subscribed)
        await stream.receive_some()  # the subscribe
        await stream.send_all(frame + text_frame(message_text(1, "0-1").encode()))
        lost = await take(client, Disconnected)
        assert (lost.code, lost.retry_in is None) == (code, permanent)
        output = bytes(await stream.receive_some())
        mask = output[2:6]
        assert output[0] == 0x88
        assert bytes(a ^ b for a, b in zip(output[6:8], mask, strict=False)) == code.to_bytes(2)
        if permanent:
            assert isinstance(await ending(client), ProtocolViolated)


async def test_messages_before_a_gap_are_delivered(server: FakeServer) -> None:
    """Also if both arrive in one read."""
    frames = [text_frame(message_text(seq, f"0-{seq}").encode()) for seq in (1, 2, 5)]
    async with server.follow() as client:
        await upgraded(server, text_frame(ACK) + b"".join(frames))
        await take(client, Subscribed)
        assert await take_offsets(client, 2) == [1, 2]
        assert (await take(client, Disconnected)).code == 1002
        command = await (await server.attempt()).accept()
        assert command["data"]["positions"] == {"odin.trades": {"0": 2}}


async def test_message_size_is_limited(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never ends a message cannot fill the memory."""
    monkeypatch.setattr(websocket, "_MAX_MESSAGE_BYTES", 1000)
    async with server.follow() as client:
        stream = await upgraded(server, text_frame(ACK))
        await stream.send_all(b"\x01\x64" + b"a" * 100)
        for _ in range(10):
            await stream.send_all(b"\x00\x64" + b"a" * 100)
        error = await ending(client)
    assert isinstance(error, ProtocolViolated)
    assert "1000 bytes" in str(error)


async def test_connect_has_a_timeout(server: FakeServer) -> None:
    """The address does not respond."""
    async with server.follow(reconnect=False, connect=trio.sleep_forever) as client:
        began = trio.current_time()
        error = await ending(client)
        assert str(error) == "no connection within 10 s"
        assert trio.current_time() == pytest.approx(began + 10)


async def test_handshake_has_a_timeout(server: FakeServer) -> None:
    """The server accepts the connection and sends nothing; the client closes it at once."""
    async with server.follow(connect_seconds=3) as client:
        stream = await server.dialled()
        began = trio.current_time()
        lost = await take(client, Disconnected)
        assert trio.current_time() == pytest.approx(began + 3)
        assert lost.reason == "no answer to the handshake within 3 s"
        assert (await stream.receive_some()).startswith(b"GET")
        assert await stream.receive_some() == b""


async def test_connect_and_handshake_share_a_timeout(server: FakeServer) -> None:
    """A slow connect leaves less for the handshake; a response in small pieces adds nothing."""

    async def slow() -> trio.abc.Stream:
        await trio.sleep(6)
        return await server.connect()

    async with server.follow(connect=slow) as client:
        began = trio.current_time()
        stream = await server.dialled()
        with trio.move_on_after(60):
            for byte in b"HTTP/1.1 101 Switching Protocols\r\n" * 10:
                await stream.send_all(bytes((byte,)))
                await trio.sleep(0.5)
                if trio.current_time() > began + 9.7:
                    break
        assert (await take(client, Disconnected)).reason.startswith("no answer to the handshake")
        assert trio.current_time() <= began + 10.5


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the server does not speak WebSocket"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "the server does not speak WebSocket"),
        (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
            "the server does not speak WebSocket",
        ),
        (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: \xff\r\n"
            b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
            "the server does not speak WebSocket",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnot h", "rejected with 404: not h"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot h",
            "closed during the handshake",
        ),
        (b"HTTP/1.1 404 Not Found\r\n\r\n" + b"x" * 999, "rejected with 404: " + "x" * 200),
        (b"HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nnot h", "rejected with 404: not h"),
        (b"HTTP/1.1 404\r\n\r\nnot h", "rejected with 404: not h"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 99999999\r\n\r\nnot h", "404: not h"),
        (b"HTTP/2 404 Not Found\r\n\r\n", "the server does not speak WebSocket"),
        (b"", "closed during the handshake"),
        (b"HTTP/1.1 10", "closed during the handshake"),
    ],
)
async def test_response_of_another_server_is_reported(
    server: FakeServer, response: bytes, why: str
) -> None:
    """The error shows what was received."""
    async with server.follow(reconnect=False) as client:
        stream = await server.dialled()
        await stream.receive_some()
        await stream.send_all(response)
        await trio.aclose_forcefully(stream)
        error = await ending(client)
    assert isinstance(error, ConnectFailed)
    assert why in str(error)
    assert isinstance(error, HandshakeRejected) == ("404" in why)


@pytest.mark.parametrize("line", [b"HTTP/1.0 503 Service Unavailable", b"HTTP/1.1 503"])
async def test_error_page_of_an_http_1_0_proxy_is_retried(server: FakeServer, line: bytes) -> None:
    """The client reconnects after the time that the proxy names."""
    async with server.follow() as client:
        stream = await server.dialled()
        await stream.receive_some()
        await stream.send_all(line + b"\r\nRetry-After: 7\r\n\r\n<html>no server</html>")
        await trio.aclose_forcefully(stream)
        disconnected = await take(client, Disconnected)
        assert disconnected.reason == "rejected with 503: <html>no server</html>"
        assert disconnected.retry_in is not None
        assert disconnected.retry_in >= 7


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (ssl.SSLCertVerificationError("certificate has expired"), True),
        (ssl.SSLEOFError("EOF occurred"), False),
        (ConnectionRefusedError("rejected"), False),
    ],
)
async def test_invalid_certificate_ends_the_client(
    server: FakeServer, error: OSError, *, permanent: bool
) -> None:
    """The next attempt would fail in the same way."""
    server.failures.append(error)
    async with server.follow() as client:
        assert ((await take(client, Disconnected)).retry_in is None) == permanent


async def test_server_without_tls_is_reported(server: FakeServer) -> None:
    """The reason is that of the TLS library."""

    async def secure() -> trio.abc.Stream:
        tls = ssl.create_default_context()
        return trio.SSLStream(await server.connect(), tls, server_hostname="odin.test")

    async with server.follow(connect=secure) as client:
        stream = await server.dialled()
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        error = await ending(client)
    assert isinstance(error, ConnectFailed)
    assert "SSL" in str(error)
