"""The service object: its parts, its state, and what the ops pages read."""

from __future__ import annotations

import attrs
import trio

from odin_ws.address import Address
from odin_ws.canary.steps import CanaryStats
from odin_ws.hub import Hub
from odin_ws.kafka.dead_letters import DeadLetterStats
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.lifecycle import Lifecycle, ServiceState
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.resources.container import Resources
from odin_ws.server import ConnectionServer
from odin_ws.settings import Settings

__all__ = ["Service"]


@attrs.define(eq=False)
class Service:
    """One running service."""

    settings: Settings
    source_status: SourceStatus
    hub: Hub
    server: ConnectionServer
    resources: Resources
    read_scheduler: ReadScheduler
    lifecycle: Lifecycle
    certificate: Certificate | None = None
    """None without TLS."""
    dead_letters: DeadLetterStats = attrs.field(factory=DeadLetterStats)
    canary: CanaryStats = attrs.field(factory=CanaryStats)
    address: Address | None = None
    """The address for subscribers, with the bound port; None before the server listens."""
    started_at: float = attrs.field(factory=trio.current_time)
    """Trio's clock, seconds."""

    @property
    def kafka_is_live(self) -> bool:
        """True if new records are delivered."""
        return self.source_status.state.value is SourceState.LIVE

    @property
    def ready(self) -> bool:
        """True if load balancers should send clients here."""
        return self.not_ready is None

    @property
    def not_ready(self) -> str | None:
        """Why the service is not ready; None if it is.

        Not ready before the feed was live once. A broker that is lost later does not change that:
        the other instances have lost it too, and clients stay connected.
        """
        if self.lifecycle.is_draining:
            return "draining"
        if self.lifecycle.state is ServiceState.STARTING:
            return f"kafka: {self.source_status.reason}"
        return None if self.server.authenticator.ready else "the JWT keys are not loaded yet"

    async def watch_source(self) -> None:
        """Wait until the feed is live for the first time."""
        await self.source_status.state.wait_value(SourceState.LIVE)
        if self.lifecycle.state is ServiceState.STARTING:
            self.lifecycle.enter(ServiceState.SERVING)

    def backlogs(self) -> list[int]:
        """Return the bytes queued for each connection, ascending."""
        return sorted(connection.send_queue.backlog for connection in self.server.connections)

    def bytes_sent(self) -> int:
        """Return the bytes written to sockets, of all connections so far."""
        live = sum(connection.send_queue.bytes_sent for connection in self.server.connections)
        return self.server.stats.bytes_sent + live

    def bytes_received(self) -> int:
        """Return the bytes read from sockets after the upgrade, of all connections so far."""
        live = sum(connection.bytes_received for connection in self.server.connections)
        return self.server.stats.bytes_received + live
