"""One try of the service by an independent client: connect, subscribe, heartbeat, close.

The client is trio-websocket, which shares no frame code with the server.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import attrs
import trio
import trio_websocket

from odin_ws.canary.steps import Step, StepFailed, TryResult
from odin_ws.exception_groups import leaves

__all__ = ["PROXY_LOCAL", "Target", "try_service"]

# A PROXY header, version 2, of a proxy that connects for itself.
PROXY_LOCAL: Final = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

# Responses have some hundred bytes; messages of a busy channel may arrive before a response.
_MAX_MESSAGE_BYTES: Final = 16 << 20

# Length limit for unexpected responses in texts.
_SHOWN: Final = 200

Stream = trio.abc.Stream


@attrs.frozen
class Target:
    """The endpoint to test, and the credentials for it."""

    open_stream: Callable[[], Awaitable[Stream]]
    """Returns a connected stream; raises OSError."""
    channel: str
    """The channel that the canary subscribes to."""
    host: str
    """The `Host` of the request."""
    path: str = "/ws"
    headers: Sequence[tuple[str, str]] = ()
    """Additional headers of the handshake request."""
    tls: ssl.SSLContext | None = None
    """None for plain WebSocket."""
    server_name: str | None = None
    """The certificate's required name, if the context checks one."""


@attrs.define
class _Clock:
    """Times the steps of one try. `times`: seconds of each step that succeeded."""

    times: dict[Step, float]
    deadline: float
    now: Callable[[], float]
    seconds: float
    current: Step = Step.CONNECT
    """The step that began last."""

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Bound and time one step. Raises StepFailed."""
        self.current = step
        begun = self.now()
        try:
            with trio.fail_after(max(0.0, self.deadline - begun)):
                yield
        except trio.TooSlowError:
            raise StepFailed(step, self._late(begun)) from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StepFailed(step, _cause(error)) from error
        except trio_websocket.ConnectionClosed as error:
            raise StepFailed(step, _closed(error)) from error
        ended = self.now()
        if ended > self.deadline:
            # Another task blocked the event loop: Trio's deadlines do not count that time.
            raise StepFailed(step, self._late(begun))
        self.times[step] = ended - begun

    def _late(self, begun: float) -> str:
        took = self.now() - begun
        return f"not done after {took:.1f} s; all steps have {self.seconds:g} s together"


async def try_service(
    target: Target,
    result: TryResult,
    seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Connect, subscribe, send a heartbeat, and close.

    Args:
        target: the endpoint and its credentials.
        result: receives the result of each successful step.
        seconds: timeout for all steps together.
        now: the clock; the default also counts time in which the event loop was blocked.

    Raises:
        StepFailed: a step failed; the message names the step.
    """
    clock = _Clock(result.times, now() + seconds, now, seconds)
    failures: list[StepFailed] = []
    try:
        async with trio.open_nursery() as nursery:
            await _try_in(nursery, target, clock, result)
            nursery.cancel_scope.cancel()
    except* StepFailed as group:
        failures += leaves(group)
    except* trio_websocket.ConnectionRejected as group:
        failures += [_rejected(error) for error in leaves(group)]
    except* Exception as group:  # noqa: BLE001 -- the boundary to a peer and a third-party library
        failures += [StepFailed(clock.current, _cause(error)) for error in leaves(group)]
    if failures:
        raise failures[0]


async def _try_in(nursery: trio.Nursery, target: Target, clock: _Clock, result: TryResult) -> None:
    """Try each step; the client's reader runs in the nursery. Raises StepFailed."""
    with clock.step(Step.CONNECT):
        stream = await target.open_stream()
    try:
        if target.tls is not None:
            stream = tls = await _start_tls(stream, target.tls, target.server_name, clock)
            result.certificate_expires = _expiry(tls)
        websocket = await _upgrade(nursery, stream, target, clock)
        with clock.step(Step.SUBSCRIBE):
            data = {"channels": [target.channel]}
            ack = await _request(websocket, "subscribe", "subscription_ack", data)
            if target.channel not in ack.get("subscribed", ()):
                raise StepFailed(Step.SUBSCRIBE, _shortened(f"rejected: {ack.get('rejected')}"))
        with clock.step(Step.HEARTBEAT):
            pong = await _request(websocket, "heartbeat", "pong", {})
            server_ms = pong.get("ts")
            result.server_ms = server_ms if isinstance(server_ms, int) else None
        with clock.step(Step.CLOSE):
            await websocket.aclose()
    finally:
        # Closes without waiting, whether or not the close handshake has finished.
        await trio.aclose_forcefully(stream)


async def _start_tls(
    stream: Stream, context: ssl.SSLContext, name: str | None, clock: _Clock
) -> trio.SSLStream[Stream]:
    tls = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
    try:
        with clock.step(Step.TLS):
            await tls.do_handshake()
    except StepFailed:
        await trio.aclose_forcefully(tls)
        raise
    return tls


async def _upgrade(
    nursery: trio.Nursery, stream: Stream, target: Target, clock: _Clock
) -> trio_websocket.WebSocketConnection:
    wire = _UpgradingStream(stream)
    try:
        with clock.step(Step.UPGRADE):
            return await trio_websocket.wrap_client_stream(
                nursery,
                wire,  # type: ignore[arg-type]  # any stream is accepted, as its docstring says
                target.host,
                target.path,
                extra_headers=[(key.encode(), value.encode()) for key, value in target.headers],
                max_message_size=_MAX_MESSAGE_BYTES,
            )
    finally:
        # At the deadline the stream is closed; that end is not reported as a failure of its own.
        wire.waiting = False


class _UpgradingStream(trio.abc.Stream):
    """Raises StepFailed before the upgrade where the library would wait forever.

    That is: the stream ends, the answer is not HTTP, or its body has no stated length.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._answer = b""
        self.waiting = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait for bytes and return them; empty at the end. Raises StepFailed."""
        data = await self._stream.receive_some(max_bytes)
        if self.waiting:
            self._answer += data
            _check_answer(self._answer, ended=not data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


def _check_answer(answer: bytes, *, ended: bool) -> None:
    """Check the bytes received so far instead of an upgrade. Raises StepFailed."""
    if not answer:
        raise StepFailed(Step.UPGRADE, "the connection was closed")
    if answer.startswith(_TLS_ALERT):
        raise StepFailed(Step.UPGRADE, "the port requires TLS")
    head, complete, body = answer.partition(b"\r\n\r\n")
    if not answer.startswith(_HTTP[: len(answer)]) or len(head) > _MAX_HEAD_BYTES:
        raise StepFailed(Step.UPGRADE, f"the answer is not HTTP: {_printed(answer)}")
    lines = head.split(b"\r\n")
    code = lines[0].split(b" ")[1:2]
    status = int(code[0]) if code and code[0].isdigit() else 0
    if not complete or status == HTTPStatus.SWITCHING_PROTOCOLS:
        if ended:
            raise StepFailed(Step.UPGRADE, "the connection was closed")
        return
    headers = [(name, value) for name, _, value in (line.partition(b":") for line in lines[1:])]
    if ended or not {name.lower() for name, _ in headers} & _BODY_LENGTHS:
        raise _http_failure(status, headers, body)


# The first bytes of an alert: a TLS server's answer to plain HTTP.
_TLS_ALERT: Final = b"\x15\x03"

_HTTP: Final = b"HTTP/1."

# More than any server's head of a response.
_MAX_HEAD_BYTES: Final = 65_536

_BODY_LENGTHS: Final = {b"content-length", b"transfer-encoding"}


def _expiry(tls: trio.SSLStream[Stream]) -> float | None:
    """Return when the peer's certificate expires, in Unix time; None if it was not checked."""
    certificate = tls.getpeercert()
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else None


async def _request(
    websocket: trio_websocket.WebSocketConnection, kind: str, answer: str, data: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Send a command and return its response. Raises StepFailed for an error response."""
    step = Step.SUBSCRIBE if kind == "subscribe" else Step.HEARTBEAT
    await websocket.send_message(json.dumps({"type": kind, "id": kind, "data": data}))
    while True:
        text = await websocket.get_message()
        item = _parse(text)
        if item is None:
            raise StepFailed(step, _shortened(f"the answer is not a JSON object: {text!r}"))
        # Messages and notices may arrive before the response.
        if item.get("type") == answer and item.get("id") == kind:
            return item
        if item.get("type") == "error" and item.get("id") == kind:
            raise StepFailed(step, _shortened(f"{item.get('code')}: {item.get('message')}"))


def _parse(text: str | bytes) -> Mapping[str, Any] | None:
    try:
        item = json.loads(text)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def _rejected(error: BaseException) -> StepFailed:
    """Return the failure by the server's response instead of the upgrade."""
    assert isinstance(error, trio_websocket.ConnectionRejected)
    return _http_failure(error.status_code, error.headers or (), error.body or b"")


def _http_failure(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> StepFailed:
    location = next((value for name, value in headers if name.lower() == b"location"), b"")
    text = body.strip()
    if text.startswith(b"<"):
        # The page of a proxy or web server.
        text = b""
    if location:
        text = b"redirects to " + location.strip()
    return StepFailed(Step.UPGRADE, f"HTTP {status} {_printed(text)}".strip(), status)


def _closed(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    if reason is None or reason.code == _ABNORMAL:
        return "the connection ended without a close"
    return _shortened(f"closed with {reason.code} {reason.reason or ''}".strip())


_ABNORMAL: Final = 1006


def _cause(error: BaseException) -> str:
    """Return the text of an error or of its cause."""
    if isinstance(error, ssl.SSLError):
        return _tls_cause(error)
    if isinstance(error, BaseExceptionGroup):
        return _cause(next(leaves(error)))
    if isinstance(error, OSError) and error.strerror:
        return _shortened(error.strerror)
    if error.__cause__ is not None:
        return _cause(error.__cause__)
    if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
        return "the connection was closed"
    return _shortened(f"{type(error).__name__}: {error}")


# OpenSSL's words for bytes that are not of TLS.
_NO_TLS: Final = "wrong version number"


def _tls_cause(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLEOFError):
        return "the connection was closed"
    words = (error.reason or str(error)).replace("_", " ").lower()
    return f"the port does not speak TLS ({words})" if words == _NO_TLS else words


def _printed(data: bytes) -> str:
    """Return the bytes of a peer as one line without control characters."""
    text = data[: 2 * _SHOWN].decode("ascii", "replace")
    return _shortened(" ".join(text.split()))


def _shortened(text: str) -> str:
    """Return the beginning of a peer's text without control characters, for a terminal."""
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
