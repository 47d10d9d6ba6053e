"""Brokers that close connections by their own rules, or that hold clients to a quota."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.log_reader import Bounds
from odin_ws.records import TopicPartition
from odin_ws.settings import Secret
from odin_ws.testing.brokers import apache_kafka, java_command
from tests.integration import kafka
from tests.integration.running_log_reader import running
from tests.integration.running_source import (
    Publisher,
    Sent,
    feeding,
    new_topics,
    options,
    wait_until,
)
from tests.integration.secure_brokers import PASSWORD, USER, kafka_with_password

# How often the broker wants to be told who we are, and for how long records are published.
REAUTH_SECONDS = 2
PUBLISH_SECONDS = 5

# Bytes per second and client id; a start of Java takes two seconds on a free machine.
QUOTA_BYTES = 100_000
COMMAND_SECONDS = 90
# Three records take two delays of 15 s; the rest is for a busy machine.
RECEIVE_SECONDS = 150


async def watch(status: SourceStatus, changes: list[SourceState]) -> None:
    """Keep each state of the feed."""
    async for state in status.state.eventual_values():
        changes.append(state)  # noqa: PERF401 -- they are looked at meanwhile


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "rule",
    [
        {"connections.max.reauth.ms": str(REAUTH_SECONDS * 1000)},
        {"connections.max.idle.ms": "1000"},
    ],
    ids=["reauth", "idle"],
)
async def test_connections_that_the_broker_closes_fail_no_request(
    tmp_path: Path, rule: dict[str, str]
) -> None:
    """Neither of the source, which reads on, nor of a replay after a pause."""
    async with kafka_with_password(tmp_path, rule) as (broker, address):
        (topic,) = topics = new_topics()
        await kafka.create_topics(broker.bootstrap, topics, 1)
        key = TopicPartition(topic, 0)
        security = KafkaSecurity((address,), "SASL_PLAINTEXT", "PLAIN", USER, Secret(PASSWORD))
        publisher = Publisher(broker.bootstrap)
        changes: list[SourceState] = []
        usual = options(address, security=security, probe=5.0)
        async with (
            feeding(topics, usual) as fed,
            running(usual) as log_reader,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(watch, fed.source_status, changes)
            assert await log_reader.bounds([key]) == {key: Bounds(0, 0)}
            for number in range(PUBLISH_SECONDS * 5):
                await publisher.publish([Sent(topic, b"BTC", b"%d" % number, 0)])
                await trio.sleep(0.2)
            count = PUBLISH_SECONDS * 5
            assert await log_reader.bounds([key]) == {key: Bounds(0, count)}
            await fed.received(count)
            assert fed.offsets()[key] == list(range(count))
            assert changes == [SourceState.LIVE]
            nursery.cancel_scope.cancel()


@pytest.mark.timeout(240)
async def test_quota_delays_records_and_stalls_nothing(tmp_path: Path) -> None:
    """The broker reads no request for some seconds, longer than a request may take."""
    async with apache_kafka(kafka.libs(), tmp_path) as broker:
        (topic,) = topics = new_topics()
        await kafka.create_topics(broker.bootstrap, topics, 1)
        with trio.fail_after(COMMAND_SECONDS):
            command = (
                f"--bootstrap-server {broker.bootstrap} --alter --entity-type clients "
                f"--entity-name odin-ws --add-config consumer_byte_rate={QUOTA_BYTES}"
            )
            java = [*java_command(kafka.libs()), "kafka.admin.ConfigCommand"]
            await trio.run_process([*java, *command.split()], capture_stdout=True)
        publisher = Publisher(broker.bootstrap, together=1)
        changes: list[SourceState] = []
        async with (
            feeding(topics, options(broker.bootstrap, probe=5.0)) as fed,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(watch, fed.source_status, changes)
            await publisher.publish([Sent(topic, b"BTC", bytes(500_000), 0)] * 3)
            await wait_until(lambda: "quota" in " ".join(map(str, fed.source_status.problems)), 60)
            await publisher.publish([Sent(topic, b"BTC", b"last", 0)])
            await fed.received(4, RECEIVE_SECONDS)
            assert fed.offsets()[TopicPartition(topic, 0)] == list(range(4))
            assert changes == [SourceState.LIVE]
            nursery.cancel_scope.cancel()
