"""The controller of a KRaft cluster is down while its broker serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from odin_ws.testing.brokers import ApacheKafka, apache_kafka, format_storage, java_command
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.cli.commands import run_command
from tests.integration import kafka
from tests.integration.domain import Domain, offsets
from tests.integration.problems import feed_statuses, no_problem
from tests.integration.running_source import Publisher
from tests.integration.servers import connected, serving, with_constants

CONTROLLER: Final = 1

# Longer than the broker's session with the controller, and than a command waits.
WITHOUT_CONTROLLER_SECONDS: Final = 6
COMMAND_SECONDS: Final = 90


@asynccontextmanager
async def separate_controller(directory: Path) -> AsyncIterator[tuple[ChildProcess, ApacheKafka]]:
    """Run a controller and a broker as two processes; the test may end the controller."""
    libs = kafka.libs()
    port, controller_port = free_ports(2)
    voters = f"{CONTROLLER}@{LOOPBACK}:{controller_port}"
    home = directory / "controller"
    home.mkdir()
    properties = home / "server.properties"
    settings = {
        "process.roles": "controller",
        "node.id": str(CONTROLLER),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CONTROLLER://{LOOPBACK}:{controller_port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT",
        "log.dirs": str(home / "data"),
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
    java = java_command(libs)
    await format_storage(java, properties)
    controller = ChildProcess([*java, "kafka.Kafka", str(properties)], home / "kafka.log")
    config = {
        "process.roles": "broker",
        "node.id": str(CONTROLLER + 1),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
    }
    await controller.start()
    try:
        async with apache_kafka(libs, directory, port, config) as broker:
            yield controller, broker
            # A broker without a controller does not stop in order.
            await broker.kill()
    finally:
        with trio.CancelScope(shield=True):
            await controller.kill()


@pytest.mark.timeout(240)
async def test_delivery_continues_without_a_controller(domain: Domain, tmp_path: Path) -> None:
    """The feed stays live, an instance starts, replays work; a command that needs one says so."""
    async with separate_controller(tmp_path) as (controller, broker):
        await kafka.create_topics(broker.bootstrap, domain.topics, 1)
        publisher = Publisher(broker.bootstrap)
        async with (
            serving(broker.bootstrap, domain.settings) as server,
            connected(server) as client,
        ):
            await client.subscribe(channels=["*.trade"])
            await publisher.publish(domain.records(domain.trade, 3))
            await client.received(3)
            await controller.kill()
            await trio.sleep(WITHOUT_CONTROLLER_SECONDS)
            await publisher.publish(domain.records(domain.trade, 3, 3))
            await client.received(6)
            await no_problem(server)
            async with (
                serving(broker.bootstrap, domain.settings, WS_HISTORY_BYTES="0") as second,
                connected(second) as back,
            ):
                await back.command(
                    "resume", channels=["*.trade"], positions={domain.trade: {"0": 0}}
                )
                await back.received(5)
                assert offsets(back) == {0: [1, 2, 3, 4, 5]}
                await no_problem(second)
            with trio.fail_after(COMMAND_SECONDS):
                listed = await run_command("topics", "list", KAFKA_BROKERS=broker.bootstrap)
                assert listed.returncode == 0, listed
                # The broker waits for the controller as long as the command allows: 10 s.
                short = with_constants({"odin_ws.cli.kafka_clients._RESPONSE_SECONDS": 4})
                made = await run_command(
                    "topics", "create", KAFKA_BROKERS=broker.bootstrap, **short
                )
            assert made.returncode == 1, made
            (line,) = made.stderr.splitlines()
            assert line.endswith("is its controller up?"), made
            await controller.start()
            with trio.fail_after(COMMAND_SECONDS):
                made = await run_command("topics", "create", KAFKA_BROKERS=broker.bootstrap)
            assert made.returncode == 0, made
            await no_problem(server)
            assert feed_statuses(client) == []
            client.check_sequence()
