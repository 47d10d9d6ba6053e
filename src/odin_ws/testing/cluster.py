"""Three Apache Kafka brokers with leader elections, failures and users.

Each node is a broker and a controller: the cluster tolerates the loss of any one node. Clients with
all permissions use `bootstrap`; users with ACLs use `user_bootstrap`.
"""

from __future__ import annotations

import base64
import secrets
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from odin_ws.testing.brokers import (
    POLL_SECONDS,
    READY_SECONDS,
    Broker,
    BrokerFailed,
    format_storage,
    java_command,
)
from odin_ws.testing.ports import LOOPBACK, free_ports, known_brokers
from odin_ws.testing.processes import ChildProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

__all__ = ["ApacheCluster", "ClusterNode", "apache_cluster"]

NODES: Final = (1, 2, 3)

# Java's heap: a node with a hundred partitions uses less than 300 MB.
HEAP: Final = "-Xmx384m"

# Maximum size of a batch: a record of 5 MB and the overhead.
MESSAGE_BYTES: Final = 8 << 20

# The same for each node.
_NODE_SETTINGS: Final = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    # The defaults are 50 partitions each; creating three replicas of each takes a while.
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.num.partitions": "1",
    # A lost node's partitions get new leaders after 3 s instead of 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Maximum delay of `acks=all` by a slow follower; 30 s by default.
    "replica.lag.time.max.ms": "5000",
    "group.initial.rebalance.delay.ms": "0",
    "message.max.bytes": str(MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MESSAGE_BYTES),
    # Three nodes on two cores: few threads, and less than 128 MB for the idle log cleaner.
    "log.cleaner.dedupe.buffer.size": str(4 << 20),
    "num.io.threads": "3",
    "num.network.threads": "2",
    "background.threads": "2",
    "log.cleaner.threads": "1",
    "num.recovery.threads.per.data.dir": "1",
    "num.replica.fetchers": "1",
}

_LOGIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class ClusterNode(Broker):
    """One of the three nodes, which keeps its address over restarts."""

    def __init__(self, number: int, java: list[str], directory: Path, port: int) -> None:
        self.number: Final = number
        self.properties: Final = directory / "server.properties"
        self.data: Final = directory / "data"
        self._settings: dict[str, str] = {}
        command = [*java, "kafka.Kafka", str(self.properties)]
        super().__init__(ChildProcess(command, directory / "kafka.log"), port)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write the settings for the next start."""
        self._settings = dict(settings)
        lines = (f"{name}={value}\n" for name, value in settings.items())
        self.properties.write_text("".join(lines), encoding="utf-8")

    @property
    def running(self) -> bool:
        """True if the node's process has been started and has not ended."""
        return self._process.running

    async def start(self) -> None:
        """Start the node; returns when the cluster counts it as alive.

        Raises:
            BrokerFailed: see `Broker.start`; or the other nodes do not accept this node.
        """
        await super().start()
        with trio.move_on_after(READY_SECONDS):
            while True:
                if self.number in await known_brokers(self.port):
                    return
                await trio.sleep(POLL_SECONDS)
        raise BrokerFailed(f"node {self.number} is not taken:\n{self._process.tail()}")

    def move(self) -> None:
        """Change the node's port from its next start on.

        Raises:
            RuntimeError: the node is running.
        """
        if self.running:
            raise RuntimeError(f"node {self.number} is running: stop it before it moves")
        (port,) = free_ports(1)
        before, after = f"PLAINTEXT://{LOOPBACK}:{self.port}", f"PLAINTEXT://{LOOPBACK}:{port}"
        moved = {
            name: value.replace(before, after) if name.endswith("listeners") else value
            for name, value in self._settings.items()
        }
        self.configure(moved)
        self.port = port


class ApacheCluster:
    """A cluster of three nodes: their processes, ids and addresses."""

    def __init__(
        self, libs: Path, directory: Path, config: Mapping[str, str], users: Mapping[str, str]
    ) -> None:
        self.libs: Final = libs
        self._java = java_command(libs, HEAP)
        ports = free_ports(3 * len(NODES))
        self._user_ports = dict(zip(NODES, ports[6:], strict=True))
        controllers = dict(zip(NODES, ports[3:6], strict=True))
        self.nodes: Final[dict[int, ClusterNode]] = {}
        for number, port in zip(NODES, ports[:3], strict=True):
            home = directory / f"node-{number}"
            home.mkdir(parents=True)
            node = ClusterNode(number, self._java, home, port)
            settings = _properties(node, controllers, self._user_ports[number], users)
            node.configure({**settings, **config})
            self.nodes[number] = node

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, for a client with all permissions."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    @property
    def user_bootstrap(self) -> str:
        """The addresses of all nodes, for a client that logs in by SASL/PLAIN without TLS."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self._user_ports.values())

    async def start(self) -> None:
        """Start the stopped nodes; returns when the cluster counts all as alive.

        Raises:
            BrokerFailed: a node does not start.
        """
        first = self.nodes[NODES[0]]
        if not first.data.exists():
            await format_storage(self._java, first.properties)
            for node in self.nodes.values():
                _copy_storage(first, node)
        await self._each(
            [node.start for node in self.nodes.values() if not node.running],
        )

    async def stop(self) -> None:
        """Stop all nodes in parallel; kills slow nodes."""
        await self._each([node.stop for node in self.nodes.values()])

    async def kill(self) -> None:
        """Kill all nodes at once, as a power cut does."""
        await self._each([node.kill for node in self.nodes.values()])

    async def _each(self, calls: list[Callable[[], Awaitable[None]]]) -> None:
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)


@asynccontextmanager
async def apache_cluster(
    libs: Path,
    directory: Path,
    config: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
) -> AsyncIterator[ApacheCluster]:
    """Run three Apache Kafka brokers from the jars in `libs`, with all files in `directory`.

    `config`: broker settings, which override the settings of this module; `users`: passwords by
    name. A user has no permission without an ACL. Topics have three replicas, of which two must be
    in sync (`min.insync.replicas`).

    Raises:
        BrokerUnavailable: Java or the jars are missing.
        BrokerFailed: a node does not start.
    """
    cluster = ApacheCluster(libs, directory, config or {}, users or {})
    try:
        await cluster.start()
        yield cluster
    finally:
        # The data is not needed: a kill takes only the kernel's time. A cancelled test must
        # not leave brokers running.
        with trio.CancelScope(shield=True):
            await cluster.kill()


def _copy_storage(first: ClusterNode, other: ClusterNode) -> None:
    """Make a node's directory from another node's, without another start of Java."""
    if other is not first:
        shutil.copytree(first.data, other.data)
    meta = other.data / "meta.properties"
    lines = [line for line in meta.read_text("utf-8").splitlines() if _is_common(line)]
    directory = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
    # An id that begins with a dash is rejected.
    lines += [f"node.id={other.number}", f"directory.id=A{directory[1:]}"]
    meta.write_text("\n".join(lines) + "\n", "utf-8")


def _is_common(line: str) -> bool:
    return line.startswith(("version=", "cluster.id="))


def _properties(
    node: ClusterNode, controllers: Mapping[int, int], user_port: int, users: Mapping[str, str]
) -> dict[str, str]:
    number, port, controller = node.number, node.port, controllers[node.number]
    accounts = "".join(f' user_{user}="{password}"' for user, password in users.items())
    advertised = f"PLAINTEXT://{LOOPBACK}:{port},USERS://{LOOPBACK}:{user_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": ",".join(
            f"{other}@{LOOPBACK}:{at}" for other, at in controllers.items()
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"{advertised},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_PLAINTEXT"
        ),
        "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.users.plain.sasl.jaas.config": f"{_LOGIN}{accounts};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The nodes themselves, and clients of the plain listener.
        "super.users": "User:ANONYMOUS",
        "log.dirs": str(node.data),
        **_NODE_SETTINGS,
    }
