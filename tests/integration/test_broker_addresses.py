"""Brokers whose advertised name does not resolve, and brokers that come back at another address."""

from __future__ import annotations

from pathlib import Path

import pytest

from odin_ws.testing.brokers import apache_kafka
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.cli.commands import run_command
from tests.integration import kafka
from tests.integration.cluster import Cluster
from tests.integration.conftest import ApacheFactory
from tests.integration.domain import Domain, offsets
from tests.integration.problems import no_problem
from tests.integration.running_source import Publisher, until
from tests.integration.servers import connected, serving

# A name that never resolves (RFC 6761).
ADVERTISED = "kafka-1.invalid:9092"


async def test_unresolvable_advertised_name_is_reported(
    own_apache: ApacheFactory, domain: Domain
) -> None:
    """Health and the commands name the address, and say that the bootstrap address answered."""
    settings = {"advertised.listeners": f"PLAINTEXT://{ADVERTISED}"}
    async with own_apache(settings) as broker:
        async with serving(broker.bootstrap, domain.settings, ready=False) as server:

            async def named() -> bool:
                (error,) = (await server.health())["errors"]
                return ADVERTISED in error and broker.bootstrap in error

            await until(named)
            assert "NodeNotReady" not in server.output
        for words in ("topics", "create"), ("topics", "list"), ("publish", "--seconds", "0.1"):
            failed = await run_command(*words, KAFKA_BROKERS=broker.bootstrap)
            assert failed.returncode == 1, failed.stdout
            assert ADVERTISED in failed.stderr, failed.stderr
            assert broker.bootstrap in failed.stderr, failed.stderr
            assert "Traceback" not in failed.stderr


@pytest.mark.timeout(180)
async def test_broker_back_at_another_configured_address_is_found(
    tmp_path: Path, domain: Domain
) -> None:
    """No known broker answers any more: the configured addresses are tried again."""
    libs = kafka.libs()
    first, second = free_ports(2)
    bootstrap = f"{LOOPBACK}:{first},{LOOPBACK}:{second}"
    async with apache_kafka(libs, tmp_path, port=first) as broker:
        await kafka.create_topics(broker.bootstrap, domain.topics, 2)
        await Publisher(broker.bootstrap).publish(domain.records(domain.trade, 5))
        # The first broker stops and the second one starts while the server runs.
        async with serving(bootstrap, domain.settings) as server, connected(server) as client:
            await client.subscribe(channels=["*.trade"])
            await Publisher(broker.bootstrap).publish(domain.records(domain.trade, 5, 5))
            await client.received(5)
            await broker.stop()
            async with apache_kafka(libs, tmp_path, port=second) as again:
                publisher = Publisher(again.bootstrap)
                await publisher.publish(domain.records(domain.trade, 5, 10))
                await client.received(10)
                assert offsets(client) == {0: list(range(5, 15))}
                await no_problem(server)


async def test_moved_broker_is_found_by_the_metadata_of_others(
    cluster: Cluster, domain: Domain
) -> None:
    """One of three brokers comes back at another address: its partitions are read."""
    await cluster.create_topic(domain.trade, replicas=[[3]], config={"min.insync.replicas": "1"})
    await cluster.create_topics(domain.topics[1:])
    node = cluster.node(3)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5))
        await client.received(5)
        await node.stop()
        node.move()
        await node.start()
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5, 5))
        await client.received(10)
        assert offsets(client) == {0: list(range(10))}
        await no_problem(server)
