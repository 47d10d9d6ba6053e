"""A try names the step that failed, in words, and never waits longer than it may."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock
from wsproto.utilities import generate_accept_token

from odin_ws.canary.probe import Target, try_service
from odin_ws.canary.steps import Step, StepFailed, TryResult
from odin_ws.protocol.frames import close_frame, text_frame
from odin_ws.testing.memory_connection import MemoryTransport, transport_pair

CHANNEL = "ANY.trade"
ACK = b'{"type":"subscription_ack","id":"subscribe","subscribed":["ANY.trade"],"rejected":[]}'
PONG = b'{"type":"pong","id":"heartbeat","ts":1}'
SECONDS = 10.0

Serve = Callable[[MemoryTransport], Awaitable[None]]


async def tried(serve: Serve, tls: ssl.SSLContext | None = None) -> dict[Step, float]:
    """Try what `serve` makes of a connection. Raises StepFailed."""
    result = TryResult()
    async with trio.open_nursery() as nursery:

        async def open_stream() -> trio.abc.Stream:
            transport, stream = transport_pair()
            nursery.start_soon(serve, transport)
            return stream

        try:
            target = Target(open_stream, CHANNEL, "localhost", tls=tls)
            await try_service(target, result, SECONDS, trio.current_time)
        finally:
            nursery.cancel_scope.cancel()
    return result.times


async def failure(serve: Serve, tls: ssl.SSLContext | None = None) -> StepFailed:
    """The failure of a try, outside of the groups of nurseries."""
    with pytest.RaisesGroup(pytest.RaisesExc(StepFailed)) as raised:
        await tried(serve, tls)
    (error,) = raised.value.exceptions
    assert isinstance(error, StepFailed)
    return error


async def upgraded(transport: MemoryTransport) -> None:
    """Answer the handshake as a server does."""
    head = await transport.receive_some(65536)
    key = next(
        line.split(b": ")[1]
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    transport.send_nowait(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % generate_accept_token(key)
    )


def answering(*responses: bytes) -> Serve:
    """A server that upgrades, and sends one of these for whatever comes, then nothing more."""

    async def serve(transport: MemoryTransport) -> None:
        await upgraded(transport)
        for response in responses:
            await transport.receive_some(65536)
            transport.send_nowait(response)
        await trio.sleep_forever()

    return serve


async def test_the_steps_of_a_success_are_timed(autojump_clock: MockClock) -> None:
    """Each one that there is; without TLS there is no such step."""

    async def serve(transport: MemoryTransport) -> None:
        await upgraded(transport)
        for seconds, response in ((1, text_frame(ACK)), (2, text_frame(PONG)), (3, b"\x88\x00")):
            await transport.receive_some(65536)
            await trio.sleep(seconds)
            transport.send_nowait(response)
        await trio.sleep_forever()

    assert await tried(serve) == {
        Step.CONNECT: 0,
        Step.UPGRADE: 0,
        Step.SUBSCRIBE: 1,
        Step.HEARTBEAT: 2,
        Step.CLOSE: 3,
    }


async def test_other_messages_may_come_before_an_answer(autojump_clock: MockClock) -> None:
    """Notices, and messages of the channel."""
    notice, message = b'{"type":"feed","status":"stalled"}', b'{"type":"message","seq":1}'
    first = text_frame(notice) + text_frame(ACK)
    second = text_frame(message) + text_frame(PONG)
    times = await tried(answering(first, second, b"\x88\x00"))
    assert Step.CLOSE in times


async def refuse() -> trio.abc.Stream:
    """Nobody listens."""
    raise ConnectionRefusedError(111, "Connection refused")


async def test_refused_connection_fails_step_connect() -> None:
    """The words are the system's."""
    with pytest.raises(StepFailed, match=r"^connect: Connection refused$"):
        await try_service(Target(refuse, CHANNEL, "localhost"), TryResult(), SECONDS)


async def test_a_rejection_tells_its_status_and_text(autojump_clock: MockClock) -> None:
    """What the server says is what an operator has to read."""

    async def serve(transport: MemoryTransport) -> None:
        await transport.receive_some(65536)
        body = b"the server is restarting\n"
        head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body)
        transport.send_nowait(head + body)
        await trio.sleep_forever()

    assert str(await failure(serve)) == "upgrade: HTTP 503 the server is restarting"


@pytest.mark.parametrize(
    ("responses", "step"),
    [
        ((), Step.SUBSCRIBE),
        ((text_frame(ACK),), Step.HEARTBEAT),
        ((text_frame(ACK), text_frame(PONG)), Step.CLOSE),
    ],
)
async def test_a_step_without_an_answer_fails_in_time(
    autojump_clock: MockClock, responses: tuple[bytes, ...], step: Step
) -> None:
    """All steps have the time together."""
    error = await failure(answering(*responses))
    assert (error.step, trio.current_time()) == (step, SECONDS)
    assert "not done after 10.0 s" in error.reason


async def test_silence_before_the_upgrade_fails_in_time(autojump_clock: MockClock) -> None:
    """As with a loop that is stuck: the kernel has taken the connection, and nothing follows."""

    async def serve(_transport: MemoryTransport) -> None:
        await trio.sleep_forever()

    assert (await failure(serve)).step is Step.UPGRADE
    assert trio.current_time() == SECONDS


async def test_connection_closed_before_the_upgrade_is_reported_at_once(
    autojump_clock: MockClock,
) -> None:
    """The library alone would wait for the upgrade until the time is over."""

    async def serve(transport: MemoryTransport) -> None:
        await transport.receive_some(65536)
        transport.close()

    assert str(await failure(serve)) == "upgrade: the connection was closed"
    assert trio.current_time() == 0


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    ("answer", "words", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nno\x1b", "HTTP 403 no\ufffd", 403),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>\nWelcome", "HTTP 200", 200),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://h/\r\n\r\n", "HTTP 301 redirects to https", 301),
        (b"HTTP/1.1 nothing\r\n\r\n", "HTTP 0", 0),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP: SSH-2.0-OpenSSH_9.2", 0),
        (b"220 mail\r\n250 more", "the answer is not HTTP: 220 mail 250 more", 0),
        (bytes(range(256)), "the answer is not HTTP: ", 0),
        (b"\x15\x03\x01\x00\x02\x02\x46", "the port requires TLS", 0),
    ],
)
async def test_answer_of_another_server_is_shown_at_once(
    autojump_clock: MockClock, answer: bytes, words: str, status: int, *, ends: bool
) -> None:
    """In one line without control characters, whether the server closes the connection or not."""

    async def serve(transport: MemoryTransport) -> None:
        await transport.receive_some(65536)
        transport.send_nowait(answer)
        if ends:
            transport.close()
        await trio.sleep_forever()

    error = await failure(serve)
    assert (error.step, error.status, trio.current_time()) == (Step.UPGRADE, status, 0)
    assert error.reason.startswith(words)
    assert error.reason.isprintable()


async def test_answer_that_ends_in_its_head_is_a_closed_connection(
    autojump_clock: MockClock,
) -> None:
    """Nothing can be said about it."""

    async def serve(transport: MemoryTransport) -> None:
        await transport.receive_some(65536)
        transport.send_nowait(b"HTT")
        transport.close()

    assert str(await failure(serve)) == "upgrade: the connection was closed"


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (
            text_frame(b'{"type":"error","id":"subscribe","code":"FORBIDDEN","message":"no"}'),
            "subscribe: FORBIDDEN: no",
        ),
        (text_frame(ACK.replace(b'["ANY.trade"]', b"[]", 1)), "subscribe: rejected: []"),
        (text_frame(b"[]"), "subscribe: the answer is not a JSON object: '[]'"),
        (text_frame(b"{"), "subscribe: the answer is not a JSON object: '{'"),
        (close_frame(1012, "restart"), "subscribe: closed with 1012 restart"),
        # A server must not write sequences to the terminal of `odin-ws check`.
        (close_frame(1012, "\x1b[2Jok\x9b1m"), "subscribe: closed with 1012 \ufffd[2Jok\ufffd1m"),
        (
            text_frame(b'{"type":"error","id":"subscribe","code":"\\u001b[2J","message":"a\\nb"}'),
            "subscribe: \ufffd[2J: a\ufffdb",
        ),
        (b"\xf1\x00", "subscribe: closed with 1002"),
    ],
)
async def test_wrong_response_is_reported(
    autojump_clock: MockClock, response: bytes, words: str
) -> None:
    """Whatever comes is words of a failure, and no traceback."""
    assert str(await failure(answering(response))).startswith(words)


async def test_time_that_no_deadline_saw_counts(autojump_clock: MockClock) -> None:
    """A loop that was kept for 20 s is late, whether its clock has counted that or not."""
    times = iter([0.0, 0.0, 20.0, 20.0, 20.0])
    transport, stream = transport_pair()

    async def open_stream() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return stream

    with pytest.RaisesGroup(pytest.RaisesExc(StepFailed)) as raised:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.receive_some, 1)
            await try_service(
                Target(open_stream, CHANNEL, "localhost"), TryResult(), SECONDS, lambda: next(times)
            )
    (error,) = raised.value.exceptions
    assert str(error).startswith("connect: not done after 20.0 s")


async def test_server_without_tls_is_reported(autojump_clock: MockClock) -> None:
    """And the other way round, the server answers 400 in words."""

    async def serve(transport: MemoryTransport) -> None:
        await transport.receive_some(65536)
        transport.send_nowait(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    error = await failure(serve, context)
    assert error.step is Step.TLS
    assert "wrong version number" in error.reason.lower()
