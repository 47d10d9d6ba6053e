"""Compacted topics: holes in the log, and a log whose last offsets have no record."""

from __future__ import annotations

from typing import Final

import pytest

from odin_ws.log_reader import Span
from odin_ws.records import TopicPartition
from odin_ws.testing.brokers import ApacheKafka
from tests.integration import kafka
from tests.integration.conftest import ApacheFactory
from tests.integration.domain import Domain, offsets
from tests.integration.running_log_reader import running
from tests.integration.running_source import Publisher, options
from tests.integration.servers import Server, connected, serving
from tests.kafka.log_reader_contract import read_all

# Each record is in a segment of its own, if the timestamps are further apart than this.
SEGMENTS: Final = {"cleanup.policy": "compact", "segment.ms": "1000"}

# Offsets that a test removes: a hole, and the end of the log.
HOLE: Final = range(2, 4)
TAIL: Final = range(6, 9)
KEPT: Final = [0, 1, 4, 5]
LAST: Final = TAIL[-1]


def compact(broker: ApacheKafka, topic: str) -> None:
    """Remove segments of a stopped broker as compaction does; the last one stays, without records.

    Kafka's cleaner leaves the last segment alone, until an election truncates it.
    """
    (folder,) = broker.data.glob(f"{topic}-0")
    for offset in (*HOLE, *TAIL):
        for path in folder.glob(f"{offset:020}.*"):
            path.unlink()
    (last,) = folder.glob(f"{TAIL.stop:020}.log")
    for path in folder.glob(f"{TAIL.stop:020}.*index"):
        path.unlink()
    last.write_bytes(b"")
    for path in folder.glob("*.snapshot"):
        path.unlink()


async def position(server: Server, domain: Domain) -> int:
    """The offset after which a new subscription is live."""
    async with connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        return int(ack["positions"][domain.trade]["0"])


@pytest.mark.timeout(180)
async def test_log_that_ends_without_records_delays_neither_start_nor_resume(
    own_apache: ApacheFactory, domain: Domain
) -> None:
    """An instance with a history becomes ready; every instance is at the end, and resumes there."""
    async with own_apache() as broker:
        await kafka.create_topics(broker.bootstrap, domain.topics, 1, SEGMENTS)
        records = domain.records(domain.trade, TAIL.stop + 1)
        now = 1_700_000_000_000
        await Publisher(broker.bootstrap, together=1).publish(
            [one._replace(timestamp=now + n * 10_000) for n, one in enumerate(records)]
        )
        await broker.stop()
        compact(broker, domain.trade)
        await broker.start()
        key = TopicPartition(domain.trade, 0)
        async with running(options(broker.bootstrap)) as reader:
            assert await reader.bounds([key]) == {key: (0, TAIL.stop)}
            found = await read_all(reader, {key: Span(0, LAST)})
            assert [record.offset for record in found] == KEPT
            assert await read_all(reader, {key: Span(TAIL[1], LAST)}) == []
        # The records are old.
        history = {**domain.settings, "WS_HISTORY_SECONDS": "2000000000"}
        async with (
            serving(broker.bootstrap, history) as first,
            serving(broker.bootstrap, domain.settings, WS_HISTORY_BYTES="0") as second,
        ):
            for server in first, second:
                assert await position(server, domain) == LAST
                for known in KEPT[-1], TAIL[0], LAST:
                    async with connected(server) as client:
                        response = await client.command(
                            "resume",
                            channels=["*.trade"],
                            positions={domain.trade: {"0": known}},
                        )
                        assert response["recovered"], response
            async with connected(first) as one, connected(second) as other:
                for client in one, other:
                    await client.command(
                        "resume", channels=["*.trade"], positions={domain.trade: {"0": 0}}
                    )
                await Publisher(broker.bootstrap).publish(domain.records(domain.trade, 1))
                for client in one, other:
                    await client.received(len(KEPT))
                    assert offsets(client) == {0: [*KEPT[1:], TAIL.stop]}
