"""Transactions: every instance moves past markers, and aborted records never arrive."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from functools import partial

import pytest
import trio

from odin_ws.log_reader import Span
from odin_ws.records import Record, TopicPartition
from tests.integration import kafka
from tests.integration.cluster import Cluster, Transaction
from tests.integration.domain import Domain, offsets
from tests.integration.problems import kafka_check, no_problem, problem_with
from tests.integration.running_log_reader import running
from tests.integration.running_source import (
    Publisher,
    Sent,
    feeding,
    new_topics,
    options,
    until,
    wait_until,
)
from tests.integration.servers import Server, connected, serving
from tests.kafka.log_reader_contract import read_all

# Time-out of a resume without anything to wait for; a free machine answers in milliseconds.
AT_ONCE_SECONDS = 3


async def resume(server: Server, domain: Domain, position: int) -> list[int]:
    """Resume after an offset; return the offsets received within `AT_ONCE_SECONDS`."""
    async with connected(server) as client:
        with trio.fail_after(AT_ONCE_SECONDS):
            positions = {domain.trade: {"0": position}}
            response = await client.command("resume", channels=["*.trade"], positions=positions)
        assert response["recovered"], response
        if "replayed" in response:
            await client.received(response["replayed"])
        return offsets(client).get(0, [])


async def position(server: Server, domain: Domain) -> int:
    """The offset after which a new subscription to the topic is live."""
    async with connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        return int(ack["positions"][domain.trade]["0"])


async def test_every_instance_advances_past_transaction_markers(
    cluster: Cluster, domain: Domain
) -> None:
    """After a commit and an abort two instances are at the log's end, and resume at once.

    The log has 3 records, 2 of a transaction with its marker, and 2 aborted ones with theirs.
    """
    await cluster.create_topics(domain.topics)
    async with (
        serving(cluster.bootstrap, domain.settings) as first,
        connected(first) as client,
    ):
        await client.subscribe(channels=["*.trade"])
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 3))
        committed = Transaction(cluster.bootstrap)
        await committed.write(domain.records(domain.trade, 2, 3))
        await committed.commit()
        aborted = Transaction(cluster.bootstrap)
        await aborted.write(domain.records(domain.trade, 2, 50))
        await aborted.abort()
        await client.received(5)

        async def at_the_end(server: Server) -> bool:
            return await position(server, domain) == 8

        # One instance was there from the beginning, the other starts at the end.
        async with serving(cluster.bootstrap, domain.settings) as second:
            for server in first, second:
                await until(partial(at_the_end, server))
            # On a quiet partition, whatever position a client has: its last record, or a marker.
            for server in first, second:
                for known in 4, 5, 7, 8:
                    assert await resume(server, domain, known) == []
                assert await resume(server, domain, 2) == [3, 4]
        assert [message["data"]["data"]["n"] for message in client.messages] == [0, 1, 2, 3, 4]


async def test_open_transaction_is_named_and_counted_as_lag(
    cluster: Cluster, domain: Domain
) -> None:
    """Its records count as lag; health and a metric name it; after its end all are delivered."""
    await cluster.create_topic(domain.trade, 2)
    await cluster.create_topics(domain.topics[1:])
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        hanging = Transaction(cluster.bootstrap)
        await hanging.write(domain.records(domain.trade, 2))
        publisher = Publisher(cluster.bootstrap)
        await publisher.publish(domain.records(domain.trade, 5, 2))
        await publisher.publish(domain.records(domain.trade, 5, partition=1))
        # The other partition continues.
        await client.received(5)
        assert offsets(client) == {1: list(range(5))}

        async def lagging() -> bool:
            return bool((await kafka_check(server))["lag"][domain.trade] == 7)

        await until(lagging)
        await problem_with(server, domain.trade, "transaction", partition=0)
        assert await server.metric("ws_kafka_partitions_held") == 1
        await hanging.abort()
        await client.received(10)
        assert offsets(client) == {0: list(range(2, 7)), 1: list(range(5))}
        await no_problem(server)
        assert await server.metric("ws_kafka_partitions_held") == 0


async def test_late_committed_transaction_is_delivered_in_log_order(
    cluster: Cluster, domain: Domain
) -> None:
    """Records after an open transaction arrive after its own, each once."""
    await cluster.create_topics(domain.topics)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        transaction = Transaction(cluster.bootstrap)
        await transaction.write(domain.records(domain.trade, 3))
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 3, 3))
        await transaction.commit()
        await client.received(6)
        assert [message["data"]["data"]["n"] for message in client.messages] == list(range(6))
        assert offsets(client) == {0: list(range(6))}


async def test_since_ms_during_an_open_transaction_is_answered_at_once(
    apache: str, domain: Domain
) -> None:
    """The first record of that time is held back, behind older ones: all come live later."""
    await kafka.create_topics(apache, domain.topics, 1)
    async with serving(apache, domain.settings) as server, connected(server) as client:
        await Publisher(apache).publish(domain.records(domain.trade, 3))
        await server.has_read(domain.trade, 3)
        transaction = Transaction(apache)
        await transaction.write(domain.records(domain.trade, 2, 3))
        await trio.sleep(0.05)
        since = int(time.time() * 1000)
        await trio.sleep(0.05)
        await Publisher(apache).publish(domain.records(domain.trade, 1, 5))
        with trio.fail_after(AT_ONCE_SECONDS):
            ack = await client.subscribe(channels=["*.trade"], since_ms=since)
        assert ack["replayed"] == 0
        await transaction.commit()
        await client.received(3)
        assert offsets(client) == {0: [3, 4, 5]}


async def mix_transactions(bootstrap: str, topic: str, codec: str) -> None:
    """Write 23 records, 15 of them to deliver, and three markers.

    The batches of two transactions alternate with plain ones, and the log ends with the marker of
    an abort.
    """

    def sent(count: int) -> list[Sent]:
        return [Sent(topic, b"BTC", b"%d " % n + b"x" * 200, 0) for n in range(count)]

    plain = Publisher(bootstrap, codec)
    committed, aborted, last = (Transaction(bootstrap, codec=codec) for _ in range(3))
    await committed.write(sent(5))
    await aborted.write(sent(5))
    await plain.publish(sent(5))
    await committed.commit()
    await plain.publish(sent(5))
    await aborted.abort()
    await last.write(sent(3))
    await last.abort()


def by_offset(records: Iterable[Record]) -> list[tuple[int, bytes | None]]:
    """Offset and value of each record, in order of arrival."""
    return [(record.offset, record.value) for record in records]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_mixed_transactions_are_read_alike_by_all_readers(apache: str, codec: str) -> None:
    """Live, by a group member, in the history and by a scan: the committed records, once each.

    Each reader ends after the last marker.
    """
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    key = TopicPartition(topics[0], 0)
    group = options(apache, group=f"group-{uuid.uuid4().hex[:8]}")
    history = options(apache, history_seconds=600, history_records=1000)
    async with feeding(topics, options(apache)) as live, feeding(topics, group) as member:
        await wait_until(lambda: member.assignments and member.assignments[-1].positions)
        await mix_transactions(apache, topics[0], codec)
        committed = await kafka.read_records(apache, topics, 1, 15)
        expected = [(record.offset(), record.value()) for record in committed]
        for reader in live, member:
            await wait_until(lambda: {key: 25} in [batch.passed for batch in reader.batches])  # noqa: B023
            assert by_offset(reader.records) == expected
    async with feeding(topics, history) as late, running(options(apache)) as log_reader:
        assert by_offset(late.history) == expected
        assert late.assignments[0].positions == {key: 25}
        for first in 0, 7, 12, 15, 22:
            found = await read_all(log_reader, {key: Span(first, 25)})
            assert by_offset(found) == [one for one in expected if (one[0] or 0) >= first]
        await Publisher(apache, codec).publish([Sent(topics[0], partition=0)])
        await late.received(len(expected) + 1)
        assert late.records[-1].offset == 26
    async with feeding(topics, group) as again:
        await again.received(1)
        assert [record.offset for record in again.records] == [26]
