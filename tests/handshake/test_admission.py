"""The handshake rejects a client before the upgrade, and releases its place when it ends."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.open_connections import OpenConnections
from odin_ws.connection_options import ConnectionLimits
from odin_ws.handshake.admission import Admission
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import HandshakeLimits, Handshaker
from odin_ws.handshake.rate_limiter import RateLimiter, RateLimits
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection
from odin_ws.handshake.request_parser import read_request
from odin_ws.lifecycle import ServiceState
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.wire_format import Frames, wire_format
from odin_ws.resume import ReplayContext, ReplayLimits, ScanPool
from odin_ws.server import ConnectionServer
from odin_ws.session.session import SessionLimits
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.connection.fakes import FakeTransport
from tests.handshake.authenticators import open_authenticator
from tests.handshake.requests import max_header_bytes
from tests.hub.hub_driver import make_hub

PLACES = 2


class Guard:
    """An admission with an overload that a test can set."""

    def __init__(self) -> None:
        self.overload: str | None = None
        self.admission = Admission(PLACES, lambda: self.overload)

    def rejection(self, request: HandshakeRequest) -> HTTPRejection:
        """What a head is rejected with."""
        with pytest.raises(HTTPRejection) as caught, self.admission.admit(request):
            pass
        return caught.value


async def good_head(target: str = "/ws") -> HandshakeRequest:
    """The head of an upgrade."""
    request = await read_request(FakeTransport([max_header_bytes(target)]), max_bytes=4096)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("query", "dialect"),
    [
        ("", Dialect.V1),
        ("?v=1", Dialect.V1),
        ("?v=0", Dialect.V0),
        ("?other=0", Dialect.V1),
        ("?v=0&x=1", Dialect.V0),
    ],
)
async def test_query_selects_the_dialect(
    autojump_clock: MockClock, query: str, dialect: Dialect
) -> None:
    """`v=0` selects the original envelope; unknown parameters are ignored."""
    with Guard().admission.admit(await good_head("/ws" + query)) as form:
        assert form is wire_format(dialect)


@pytest.mark.parametrize(
    ("query", "frames"),
    [("", Frames.SINGLE), ("?frames=batch", Frames.BATCH), ("?frames=single", Frames.SINGLE)],
)
async def test_query_selects_the_frames(
    autojump_clock: MockClock, query: str, frames: Frames
) -> None:
    """Text or binary frames, before the client can send a command."""
    with Guard().admission.admit(await good_head("/ws" + query)) as form:
        assert form is wire_format(frames=frames)


@pytest.mark.parametrize("frames", ["", "Batch", "batches", "%00"])
async def test_unknown_frames_are_rejected(autojump_clock: MockClock, frames: str) -> None:
    """The body lists the allowed values."""
    rejection = Guard().rejection(await good_head(f"/ws?frames={frames}"))
    assert (rejection.status, rejection.label) == (400, "bad_request")
    assert rejection.text.startswith("frames: must be single or batch, not ")


@pytest.mark.parametrize(
    "version", ["2", "", "00", "1.0", "v1", "%00", "%0d%0aX:%20y", "%F0%9F%98%80"]
)
async def test_unknown_version_is_rejected(autojump_clock: MockClock, version: str) -> None:
    """The body lists the versions in one line."""
    guard = Guard()
    rejection = guard.rejection(await good_head("/ws?v=" + version))
    assert (rejection.status, rejection.label) == (400, "bad_request")
    assert rejection.text.startswith("v: must be 0 or 1, not ")
    assert rejection.text.isprintable()
    assert guard.admission.active == 0


async def test_connection_limit_counts_open_connections_only(autojump_clock: MockClock) -> None:
    """Each end of a connection, of any kind, releases its place."""
    guard = Guard()
    request = await good_head()
    with ExitStack() as inside:
        for number in range(PLACES):
            assert guard.admission.active == number
            inside.enter_context(guard.admission.admit(request))
        rejection = guard.rejection(request)
        assert (rejection.status, rejection.label) == (503, "max_connections")
        assert str(PLACES) in rejection.text
    assert guard.admission.active == 0
    with pytest.raises(ZeroDivisionError), guard.admission.admit(request):
        raise ZeroDivisionError
    assert guard.admission.active == 0
    with guard.admission.admit(request):
        assert guard.admission.active == 1


async def test_draining_server_rejects_new_clients(autojump_clock: MockClock) -> None:
    """Open connections stay."""
    guard = Guard()
    request = await good_head()
    with guard.admission.admit(request):
        guard.admission.lifecycle.enter(ServiceState.CLOSING)
        rejection = guard.rejection(request)
        assert (rejection.status, rejection.label) == (503, "draining")
        assert guard.admission.active == 1


async def test_overloaded_server_rejects_with_the_limit(autojump_clock: MockClock) -> None:
    """The body and the metric's label name the limit while it is exceeded."""
    guard = Guard()
    request = await good_head()
    guard.overload = "memory"
    rejection = guard.rejection(request)
    assert (rejection.status, rejection.label) == (503, "memory")
    assert "memory" in rejection.text
    guard.overload = None
    with guard.admission.admit(request):
        pass


async def test_retry_after_of_rejections_varies(autojump_clock: MockClock) -> None:
    """Retry-After has whole seconds, not the same for all."""
    guard = Guard()
    guard.admission.lifecycle.enter(ServiceState.CLOSING)
    request = await good_head()
    waits = {dict(guard.rejection(request).headers)["Retry-After"] for _ in range(100)}
    assert {int(wait) for wait in waits} <= set(range(2, 11))
    assert len(waits) > 1


async def test_invalid_request_is_rejected_before_the_limits(autojump_clock: MockClock) -> None:
    """A wrong path is 404 on a full server too: a retry would not help."""
    guard = Guard()
    guard.admission.lifecycle.enter(ServiceState.CLOSING)
    guard.overload = "memory"
    assert guard.rejection(await good_head("/elsewhere")).status == 404
    assert guard.rejection(await good_head("/ws?v=9")).status == 400


@pytest.mark.parametrize("overload", [None, "memory"])
@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("places", [0, 1])
async def test_failing_22_a_rejection_is_an_http_answer_and_never_a_101(
    autojump_clock: MockClock, overload: str | None, *, draining: bool, places: int
) -> None:
    """A rejected client reads an HTTP status; only an admitted one is upgraded."""
    admission = Admission(places, lambda: overload)
    if draining:
        admission.lifecycle.enter(ServiceState.CLOSING)
    hub = make_hub()
    scans = ScanPool(hub, MemoryLogReader(MemoryLog(())), 4)
    server = ConnectionServer(
        ReplayContext(hub, scans.log_reader, ReplayLimits(1000), scans),
        OpenConnections(hub.stream.catalogue),
        admission,
        Keepalive(30, 75),
        ConnectionLimits(
            message_bytes=1024,
            message_frames=10,
            message_seconds=10,
            send_queue_bytes=1024,
            write_timeout=10,
            compression=True,
            session=SessionLimits(10, 10, SubscriptionLimits(10, 0, 1024, 10, 60)),
        ),
        handshaker=Handshaker(
            HandshakeLimits(10, 4096, 5, TrustedProxies(()), proxy_protocol=False),
            RateLimiter(RateLimits()),
            None,
        ),
        authenticator=open_authenticator(hub),
        is_ready=lambda: True,
    )
    transport = FakeTransport([max_header_bytes()])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, transport, "192.0.2.1")
        await wait_all_tasks_blocked()
        response = bytes(transport.sent)
        transport.put(b"")
    if overload is None and not draining and places:
        assert response.startswith(b"HTTP/1.1 101 ")
        assert server.stats.opened == 1
        assert not admission.rejections
    else:
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in response
        assert server.stats.opened == 0
        assert admission.rejections.total() == 1
    assert admission.active == 0
