"""Bytes that no library writes: the feed continues after them, live and from the history."""

from __future__ import annotations

import pytest

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import InvalidBatch
from odin_ws.testing.brokers import embedded_broker
from tests.integration import kafka
from tests.integration.raw_produce import produce
from tests.integration.running_source import (
    Publisher,
    Sent,
    feeding,
    new_topics,
    options,
    wait_until,
)
from tests.integration.servers import connected, serving
from tests.integration.test_dead_letters import dead_letters, headers
from tests.kafka.batches import raw_batch, raw_record

TRADE = b'{"type":"TRADE_EXECUTED","data":{"n":1}}'
BAD_HEADER = raw_batch(0, raw_record(0, value=TRADE, headers=[(b"\xff\xfe", b"x")]), 1)
WITHOUT_TIME = raw_batch(0, raw_record(0, value=TRADE), 1, timestamps=(-1, -1))

# The embedded broker stores them; Apache Kafka validates what it is sent.
GARBAGE = {
    "zstd": (raw_batch(0, b"garbage", 1, attributes=4), InvalidBatch.BAD_COMPRESSION),
    "snappy": (raw_batch(0, b"garbage", 1, attributes=2), InvalidBatch.BAD_COMPRESSION),
    "count": (raw_batch(0, raw_record(0), 2, delta=1), InvalidBatch.MALFORMED_BATCH),
    "records": (raw_batch(0, b"\xff" * 20, 2, delta=1), InvalidBatch.MALFORMED_BATCH),
}


@pytest.fixture(params=["apache", "embedded"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of each kind of broker in turn."""
    address: str = request.getfixturevalue(request.param)
    return address


async def test_header_key_that_is_not_utf8_is_skipped(bootstrap: str) -> None:
    """It is skipped live, and by an instance that starts while it is in the history."""
    topics = new_topics()
    await kafka.create_topics(bootstrap, topics, 1)
    odd = (BAD_HEADER, WITHOUT_TIME)
    async with feeding(topics, options(bootstrap)) as running:
        for batch in odd:
            assert await produce(bootstrap, topics[0], batch) == 0
        await Publisher(bootstrap).publish([Sent(topics[0], value=b"last", partition=0)])
        await running.received(3)
        assert running.values == [TRADE, TRADE, b"last"]
        assert running.source_status.state.value is SourceState.LIVE
    past = options(bootstrap, history_seconds=600.0, history_records=1000)
    async with feeding(topics, past) as running:
        await running.received(1)
        assert [record.value for record in running.history][-1] == b"last"
        assert all(record.invalid is None for record in running.records)


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_batch_is_skipped_with_a_reason(embedded: str, kind: str) -> None:
    """One record stands for the batch, with the reason; later records arrive."""
    batch, reason = GARBAGE[kind]
    topics = new_topics()
    await kafka.create_topics(embedded, topics, 1)
    async with feeding(topics, options(embedded)) as running:
        assert await produce(embedded, topics[0], batch) == 0
        await Publisher(embedded).publish([Sent(topics[0], value=b"last", partition=0)])
        await wait_until(lambda: running.values and running.values[-1] == b"last")
        assert [record.invalid for record in running.records] == [reason, None]
        assert running.source_status.state.value is SourceState.LIVE


async def test_server_counts_undecodable_records_and_writes_dead_letters(token: str) -> None:
    """A subscriber gets valid records; operators see the others by reason, with their bytes."""
    async with embedded_broker() as broker:
        await check_server(broker.bootstrap, token)


async def check_server(embedded: str, token: str) -> None:
    """Check a server on a broker of its own, which has no topics yet."""
    (dead,) = new_topics()
    await kafka.create_topics(embedded, [dead, *kafka.TOPICS], 1)
    good = raw_record(0, key=token.encode(), value=TRADE, headers=[(b"\xff", b"")])
    garbage, reason = GARBAGE["zstd"]
    settings = {"KAFKA_DEAD_LETTER_TOPIC": dead}
    async with serving(embedded, settings) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        for batch in (garbage, raw_batch(0, good, 1)):
            assert await produce(embedded, "odin.trades", batch) == 0
        await client.received(1)
        assert await server.metric("ws_kafka_messages_failed_total", reason=reason.value) == 1
        (letter,) = await dead_letters(embedded, dead, 1)
        assert headers(letter)["odin-ws.reason"] == reason.value
        assert (letter.key(), bytes(letter.value() or b"")[-7:]) == (None, b"garbage")
