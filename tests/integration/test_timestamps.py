"""Timestamps of records: set by the broker, by wrong clocks, out of order, negative or none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import pytest

from tests.integration import kafka
from tests.integration.domain import Domain, offsets
from tests.integration.raw_produce import produce
from tests.integration.running_source import (
    Publisher,
    Sent,
    every_partition,
    feeding,
    new_topics,
    options,
    until,
)
from tests.integration.servers import connected, serving
from tests.kafka.batches import raw_batch, raw_record

HOUR_MS: Final = 3_600_000

# Apache Kafka accepts timestamps of at most an hour in the future by default.
AHEAD_MS: Final = HOUR_MS - 60_000

BY_BROKER: Final = {"message.timestamp.type": "LogAppendTime"}

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


def now_ms() -> int:
    """This machine's clock, which is also the broker's."""
    return int(time.time() * 1000)


@pytest.mark.parametrize("codec", CODECS)
async def test_broker_timestamps_replace_those_of_publishers(apache: str, codec: str) -> None:
    """With LogAppendTime a record has the broker's time, live and in the history.

    The history's age limit and offsets by time use it as well.
    """
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1, BY_BROKER)
    before = now_ms()
    wrong = [Sent(topics[0], timestamp=before - HOUR_MS + n) for n in range(5)]
    recent = options(apache, history_seconds=60, history_records=1000)
    async with feeding(topics, options(apache)) as running:
        await Publisher(apache, codec).publish(wrong)
        await running.received(5)
        async with feeding(topics, recent) as late:
            assert [record.offset for record in late.history] == [0, 1, 2, 3, 4]
            stamps = [record.timestamp for record in running.records]
            assert stamps == [one.timestamp for one in late.history]
            assert before <= min(stamps)
            assert max(stamps) <= now_ms()


async def test_since_with_broker_timestamps_uses_the_time_of_arrival(
    apache: str, domain: Domain
) -> None:
    """`since_ms` skips what arrived before, whatever time publishers wrote."""
    await kafka.create_topics(apache, domain.topics, 1, BY_BROKER)
    publisher = Publisher(apache)
    old = [
        record._replace(timestamp=now_ms() - HOUR_MS) for record in domain.records(domain.trade, 3)
    ]
    async with serving(apache, domain.settings) as server:
        await publisher.publish(old)
        await server.has_read(domain.trade, 3)
        since = now_ms()
        await publisher.publish(old)
        async with connected(server) as client:
            await client.subscribe(channels=["*.trade"], since_ms=since)
            await client.received(3)
            assert offsets(client) == {0: [3, 4, 5]}
            assert all(since <= message["ts"] <= now_ms() for message in client.messages)


async def publish_at(bootstrap: str, topic: str, timestamps: Sequence[int]) -> None:
    """Write one record per timestamp, in one batch; no producer's library writes some of them."""
    value = b'{"type":"TEST","timestamp":1,"data":{}}'
    first = timestamps[0]
    records = b"".join(
        raw_record(n, key=b"T", value=value, timestamp=at - first)
        for n, at in enumerate(timestamps)
    )
    spread = first, max(timestamps)
    made = raw_batch(0, records, len(timestamps), timestamps=spread)

    async def is_written() -> bool:
        # The broker of a new topic may not lead it for a moment.
        return await produce(bootstrap, topic, made) == 0

    await until(is_written)


async def test_records_with_wrong_timestamps_are_delivered(apache: str, domain: Domain) -> None:
    """Of the future, of 1970, none, out of order: each arrives live, by `since_ms` and by resume.

    No record's age is negative, and one without a timestamp has no age.
    """
    await kafka.create_topics(apache, domain.topics, 1)
    now = now_ms()
    stamps = [now, now + AHEAD_MS, now - HOUR_MS, 0, 1, now + 1]
    async with serving(apache, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await publish_at(apache, domain.trade, stamps)
        await publish_at(apache, domain.trade, [-1])
        await publish_at(apache, domain.trade, [-1, -1])
        await publish_at(apache, domain.trade, [now + 2])
        await client.received(10)
        sent = [*stamps, -1, -1, -1, now + 2]
        assert [message["ts"] for message in client.messages] == sent
        client.check_sequence()
        assert await server.metric("ws_record_age_seconds_sum") >= 0
        assert await server.metric("ws_record_age_seconds_count") == 7
        for history in "0", str(64 << 20):
            async with (
                serving(apache, domain.settings, WS_HISTORY_BYTES=history) as other,
                connected(other) as back,
            ):
                positions = {domain.trade: {"0": -1}}
                await back.command("resume", channels=["*.trade"], positions=positions)
                await back.received(10)
                assert [message["ts"] for message in back.messages] == sent
        # Kafka answers with the first record that is young enough, whatever comes after it.
        for since, first in (0, 0), (now, 0), (now + 1, 1), (now + HOUR_MS, None):
            async with connected(server) as late:
                response = await late.command("subscribe", channels=["*.trade"], since_ms=since)
                assert response["type"] == "subscription_ack", response
                wanted = [] if first is None else list(range(first, 10))
                await late.received(len(wanted))
                assert offsets(late).get(0, []) == wanted


async def test_history_by_age_ends_at_the_last_offset_with_wrong_timestamps(apache: str) -> None:
    """A publisher an hour behind has no history, one ahead has one as large as is allowed."""
    behind, ahead, mixed = topics = new_topics(3)
    await kafka.create_topics(apache, topics, 1)
    now = now_ms()
    await publish_at(apache, behind, [now - HOUR_MS] * 20)
    await publish_at(apache, ahead, [now + AHEAD_MS] * 20)
    for at in (now - HOUR_MS, now + AHEAD_MS, now - HOUR_MS, 0):
        await publish_at(apache, mixed, [at] * 5)
    recent = options(apache, history_seconds=60, history_records=24)
    async with feeding(topics, recent) as running:
        found = {key.topic: offsets for key, offsets in running.offsets().items()}
        assert found == {ahead: list(range(8, 20)), mixed: list(range(8, 20))}
        assert running.assignments[0].positions == dict.fromkeys(every_partition(topics, 1), 19)
        await Publisher(apache).publish([Sent(topic) for topic in topics])
        await running.received(27)
        assert [record.offset for record in running.records[-3:]] == [20, 20, 20]
