"""Start, drain, stop: `running` opens the service's stages in order and closes them in reverse.

Each stage is a nursery around all later ones. The ops port reports on everything, so it stops last;
records are read and dispatched until the last subscriber has disconnected.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from odin_ws.address import Address
from odin_ws.announcements import broadcast_feed_status, close_rebalanced_subscribers
from odin_ws.assembly import Upstream, build, canary_channel, read_certificate
from odin_ws.canary.credential import CANARY_HEADER, CanaryCredential, new_secret
from odin_ws.canary.probe import PROXY_LOCAL, Target
from odin_ws.canary.runner import run_canary
from odin_ws.catalogue import Catalogue
from odin_ws.connection.connection import CLOSE_SECONDS
from odin_ws.hub import Dispatcher
from odin_ws.lifecycle import ServiceState
from odin_ws.listener.accept_loop import accept_connections, bound_address, open_listening_socket
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.read_scheduler import running_read_scheduler as read_scheduler
from odin_ws.listener.transport import Transport
from odin_ws.ops.app import ops_app
from odin_ws.ops.console.sampler import Sampler
from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.ops.server import serve_ops
from odin_ws.ops.stats import OpsStats
from odin_ws.records import Item
from odin_ws.service import Service
from odin_ws.settings import Secret, Settings

__all__ = [
    "Accept",
    "Addresses",
    "canary",
    "dead_letters",
    "dispatcher",
    "kafka_ingest",
    "open_record_channel",
    "running",
    "serve",
    "subscribers",
]

log = structlog.get_logger("odin_ws.service")

# Batches of at most 2,000 records between source and hub: enough that neither waits for the other's
# scheduling, few enough that a busy hub stops the fetches within milliseconds.
_CHANNEL_BATCHES: Final = 4

# Accepts connections until cancelled: calls the function for each, in a task of the nursery.
Accept = Callable[[Callable[[Transport, str], Awaitable[None]], trio.Nursery], Awaitable[None]]


@attrs.frozen
class Addresses:
    """The addresses at which the service listens, with the bound ports."""

    subscribers: Address
    ops: Address


async def serve(
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the service until `stop` is set, then drain. Cancellation stops at once."""
    with (
        open_listening_socket(settings.ws_ops_addr) as ops_socket,
        open_listening_socket(settings.ws_addr) as listening,
    ):
        addresses = Addresses(bound_address(listening), bound_address(ops_socket))
        async with running(settings, catalogue, upstream, listening, ops_socket):
            log.info("serving", subscribers=str(addresses.subscribers), ops=str(addresses.ops))
            task_status.started(addresses)
            await stop.wait()


@asynccontextmanager
async def running(  # noqa: PLR0913 -- the parts of a process
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    listening: socket.socket,
    ops_socket: socket.socket,
    *,
    canary_secret: Secret | None = None,
) -> AsyncIterator[None]:
    """Serve on two listening sockets during the block, then drain.

    `canary_secret`: the secret shared by all processes of the port; by default a new one.
    Raises CertificateError.
    """
    certificate = read_certificate(settings)
    credential: CanaryCredential | None = None
    if settings.ws_canary_seconds:
        credential = CanaryCredential.of(canary_secret or new_secret(), bound_address(listening))
    service = build(settings, catalogue, upstream, certificate, credential)
    service.address = bound_address(listening)
    records, dispatched = open_record_channel()
    async with (
        certificate_reload(certificate),
        ops_server(service, ops_socket),
        dead_letters(upstream),
        dispatcher(service, dispatched),
        kafka_ingest(upstream, records),
        read_scheduler(service.read_scheduler),
        subscribers(service, partial(accept_connections, listening, service.read_scheduler)),
        canary(service, credential, partial(_connect, credential, settings)),
    ):
        yield
    service.lifecycle.enter(ServiceState.STOPPED)
    log.info("stopped", disconnects=service.server.stats.closed.total())


def open_record_channel() -> tuple[trio.MemorySendChannel[Item], trio.MemoryReceiveChannel[Item]]:
    """Open the bounded channel from source to dispatcher: a full one blocks the source."""
    return trio.open_memory_channel[Item](_CHANNEL_BATCHES)


@asynccontextmanager
async def certificate_reload(certificate: Certificate | None) -> AsyncIterator[None]:
    """Reload the certificate on SIGHUP during the block."""
    async with trio.open_nursery() as nursery:
        if certificate is not None:
            nursery.start_soon(certificate.run)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def ops_server(service: Service, listening: socket.socket) -> AsyncIterator[None]:
    """Health, metrics and the console."""
    stats, sampler = OpsStats(), Sampler(service)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.resources.run)
        nursery.start_soon(service.resources.loop.run)
        nursery.start_soon(service.watch_source)
        nursery.start_soon(sampler.run)
        # Only the supervisor requests a worker's pages, and it caches them.
        seconds = 0.0 if listening.family is socket.AF_UNIX else PAGE_SECONDS
        app = ops_app(service, seconds, stats, sampler)
        async with serve_ops(app, listening, stats):
            yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def dead_letters(upstream: Upstream) -> AsyncIterator[None]:
    """Write skipped records to the dead letter topic during the block, if there is one."""
    queue = upstream.dead_letters
    async with queue.running() if queue else nullcontext():
        yield


@asynccontextmanager
async def dispatcher(
    service: Service, records: trio.MemoryReceiveChannel[Item]
) -> AsyncIterator[None]:
    """Dispatch from the channel to subscribers: records, replays, announcements."""
    server = service.server
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.scans.run)
        nursery.start_soon(server.replay_window.run)
        nursery.start_soon(Dispatcher(service.hub).run, records)
        nursery.start_soon(broadcast_feed_status, service.source_status, server.connections)
        nursery.start_soon(close_rebalanced_subscribers, service.hub.stream, server.connections)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def kafka_ingest(
    upstream: Upstream, records: trio.MemorySendChannel[Item]
) -> AsyncIterator[None]:
    """Read from the source into the channel during the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.source.run, records)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def subscribers(service: Service, accept: Accept) -> AsyncIterator[None]:
    """Accept and serve subscribers; at the end of the block reject new ones and close all."""
    settings, server = service.settings, service.server
    async with trio.open_nursery() as upkeep:
        # Until the last client has left: without pings, proxies would close clients that wait for
        # their close in a long drain.
        upkeep.start_soon(server.keepalive.run)
        upkeep.start_soon(server.authenticator.run)
        upkeep.start_soon(
            server.connections.send_positions,
            service.hub,
            settings.ws_positions_interval_seconds,
        )
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept, server.serve, connections)
                yield
                log.info("draining", connections=server.admission.active)
                service.lifecycle.enter(ServiceState.DRAINING)
                # Load balancers notice the readiness first; connections until then are served.
                await trio.sleep(settings.ws_drain_delay_seconds)
                accepting.cancel_scope.cancel()
            service.lifecycle.enter(ServiceState.CLOSING)
            seconds = settings.ws_drain_timeout_seconds
            connections.cancel_scope.deadline = trio.current_time() + seconds
            await server.connections.close_all(max(0.0, seconds - CLOSE_SECONDS))
        upkeep.cancel_scope.cancel()


@asynccontextmanager
async def canary(
    service: Service,
    credential: CanaryCredential | None,
    open_stream: Callable[[], Awaitable[trio.abc.Stream]],
    now: Callable[[], float] = time.monotonic,
) -> AsyncIterator[None]:
    """Run the canary every WS_CANARY_SECONDS, from the start of the service until it drains.

    `open_stream`: connects to the service. `now`: the clock of the steps.
    """
    if credential is None:
        yield
        return
    target = partial(_canary_target, service, credential, open_stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            run_canary, target, service.settings.ws_canary_seconds, service.canary, now
        )
        yield
        nursery.cancel_scope.cancel()


def _canary_target(
    service: Service,
    credential: CanaryCredential,
    open_stream: Callable[[], Awaitable[trio.abc.Stream]],
) -> Target:
    certificate = service.certificate
    return Target(
        open_stream,
        canary_channel(service.hub.stream.catalogue),
        str(credential.address),
        headers=[(CANARY_HEADER, credential.secret.reveal())],
        # Read for each try: SIGHUP may have reloaded the certificate.
        tls=None if certificate is None else certificate.client_context,
    )


async def _connect(credential: CanaryCredential | None, settings: Settings) -> trio.SocketStream:
    """Connect to our own port; sends a PROXY header without an address if one is required."""
    assert credential is not None
    stream = await trio.open_tcp_stream(*credential.address)
    if settings.ws_proxy_protocol == "required":
        await stream.send_all(PROXY_LOCAL)
    return stream
