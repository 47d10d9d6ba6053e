"""The Kafka source with real brokers: every record arrives once and in order."""

from __future__ import annotations

import pytest
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Batch, TopicPartition
from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.conftest import ApacheFactory
from tests.integration.running_source import (
    Publisher,
    Sent,
    add_partitions,
    count_partitions,
    delete_records_before,
    every_partition,
    feeding,
    new_topics,
    numbered,
    options,
    publish_in_transaction,
    same_offsets,
    wait_until,
)

CODECS = ("gzip", "snappy", "lz4", "zstd")

LAST = b"last"


@pytest.fixture(params=["apache", "embedded"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of each kind of broker in turn."""
    address: str = request.getfixturevalue(request.param)
    return address


# ---- records


async def test_backlog_is_not_delivered_as_live(bootstrap: str) -> None:
    """Records published before the start never arrive; later ones do."""
    topics = new_topics(2)
    await kafka.create_topics(bootstrap, topics, 3)
    partitions = every_partition(topics, 3)
    # Asked for the end, the embedded broker counts a batch as one record.
    publisher = Publisher(bootstrap, together=1)
    await publisher.publish(numbered(partitions, 20))
    async with feeding(topics, options(bootstrap)) as running:
        positions = running.assignments[0].positions
        assert positions == dict.fromkeys(partitions, 19)
        assert not running.assignments[0].partial
        await publisher.publish(numbered(partitions, 1, first=20))
        await running.received(6)
        assert running.offsets() == same_offsets(partitions, [20])


async def test_records_arrive_in_offset_order_per_partition(bootstrap: str) -> None:
    """All records of all partitions arrive, each once, and in order within a partition."""
    topics = new_topics(3)
    await kafka.create_topics(bootstrap, topics, 4)
    partitions = every_partition(topics, 4)
    async with feeding(topics, options(bootstrap)) as running:
        await Publisher(bootstrap).publish(numbered(partitions, 200))
        await running.received(12 * 200)
        assert running.offsets() == same_offsets(partitions, range(200))
        assert all(record.value == b"%d" % record.offset for record in running.records)


@pytest.mark.parametrize("codec", CODECS)
async def test_compressed_records_arrive_unchanged(bootstrap: str, codec: str) -> None:
    """Records of each codec arrive unchanged."""
    topics = new_topics()
    await kafka.create_topics(bootstrap, topics, 1)
    values = [b'{"number": %d, "padding": "%s"}' % (number, b"x" * 200) for number in range(50)]
    async with feeding(topics, options(bootstrap)) as running:
        await Publisher(bootstrap, codec).publish(
            [Sent(topics[0], value=value) for value in values]
        )
        await running.received(50)
        assert running.values == values


async def test_no_content_of_a_record_stops_the_source(bootstrap: str) -> None:
    """Null keys and values, no JSON, no UTF-8, empty, a megabyte: each is handed on."""
    (topic,) = new_topics()
    await kafka.create_topics(bootstrap, [topic], 1)
    odd = [
        (None, b"{}"),
        (b"BTC", None),
        (None, None),
        (b"", b""),
        (b"\xff\xfe", b"{}"),
        (b"BTC", b"no JSON \x00\xff"),
        (b"BTC", b'{"padding":"' + b"x" * 900_000 + b'"}'),
        (b"BTC", LAST),
    ]
    async with feeding([topic], options(bootstrap)) as running:
        await Publisher(bootstrap).publish([Sent(topic, key, value, 0) for key, value in odd])
        await running.received(len(odd))
        assert [(record.key, record.value) for record in running.records] == odd


async def test_records_have_their_broker_timestamp(apache: str) -> None:
    """A record's timestamp is the broker's, in milliseconds."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    async with feeding(topics, options(apache)) as running:
        before = trio.current_time()
        await Publisher(apache).publish([Sent(topics[0]), Sent(topics[0])])
        await running.received(2)
        first, second = (record.timestamp for record in running.records)
        assert 0 <= second - first <= (trio.current_time() - before) * 1000


async def test_transaction_markers_leave_the_feed_live(apache: str) -> None:
    """Transaction markers take offsets, and are not missing records."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    async with feeding(topics, options(apache)) as running:
        await publish_in_transaction(apache, Sent(topics[0], value=LAST))
        await running.received(1)
        await running.probes(3)
        assert running.source_status.state.value is SourceState.LIVE, running.source_status.reason
        assert running.source_status.lag == {topics[0]: 0}
        assert running.values == [LAST]


# ---- topics and partitions that appear and disappear


async def test_topic_created_later_is_read_from_its_first_record(bootstrap: str) -> None:
    """The feed is live without it and reports it missing; then none of its records is skipped."""
    here, later = topics = new_topics(2)
    await kafka.create_topics(bootstrap, [here], 2)
    async with feeding(topics, options(bootstrap)) as running:
        assert running.source_status.missing_topics == {later}
        await kafka.create_topics(bootstrap, [later], 2)
        await Publisher(bootstrap).publish(numbered(every_partition(topics, 2), 5))
        await running.received(20)
        assert running.offsets() == same_offsets(every_partition(topics, 2), [0, 1, 2, 3, 4])
        assert running.source_status.missing_topics == set()
        assert running.assignments[-1].positions.keys() == set(every_partition(topics, 2))


async def test_partition_added_later_is_read_from_its_first_record(apache: str) -> None:
    """Records published before the source knows the partition are delivered; others continue."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    await Publisher(apache).publish(numbered(every_partition(topics, 1), 10))
    async with feeding(topics, options(apache)) as running:
        await add_partitions(apache, topic, 3)
        await wait_until(lambda: count_partitions(apache, topic) == 3)
        # Another publisher, because the one above does not know of the new partitions yet.
        await Publisher(apache).publish(numbered(every_partition(topics, 3), 10, first=10))
        await running.received(30)
        assert running.offsets() == {
            (topic, 0): list(range(10, 20)),
            (topic, 1): list(range(10)),
            (topic, 2): list(range(10)),
        }


async def test_deleted_topic_does_not_affect_others(
    apache: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The feed stays live and reports it as missing; recreated, it is read from its first record.

    aiokafka must not go on requesting it, a hundred times a second.
    """
    stays, goes = topics = new_topics(2)
    await kafka.create_topics(apache, topics, 1)
    async with feeding(topics, options(apache)) as running:
        publisher = Publisher(apache)
        await publisher.publish([Sent(stays, value=b"1"), *[Sent(goes, value=b"old")] * 9])
        await running.received(10)
        await kafka.delete_topics(apache, [goes])
        await wait_until(lambda: running.source_status.missing_topics == {goes})
        await running.probes(1)
        caplog.clear()
        await running.probes(3)
        assert caplog.records == []
        assert running.source_status.state.value is SourceState.LIVE, running.source_status.reason
        await publisher.publish([Sent(stays, value=b"2")])
        await running.received(11)
        await kafka.create_topics(apache, [goes], 1)
        await Publisher(apache).publish([Sent(goes, value=b"new")])
        await running.received(12)
        assert running.values[10:] == [b"2", b"new"]
        assert running.assignments[-1].positions[TopicPartition(goes, 0)] == -1
        assert running.source_status.lost_records == 0
        await wait_until(lambda: not running.source_status.missing_topics)


async def test_records_deleted_before_they_were_read_are_counted(apache: str) -> None:
    """Retention overtakes a blocked reader: it continues after the gap and counts lost records."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    publisher = Publisher(apache)
    async with feeding(topics, options(apache)) as running:
        running.takes.value = False
        # Larger than one fetch of a partition, so most records stay with the broker.
        large = b"x" * 400_000
        await publisher.publish([Sent(topic, value=large, partition=0)] * 40)
        await wait_until(lambda: running.batches)
        await delete_records_before(apache, topic, 0, 30)
        running.takes.value = True
        await publisher.publish([Sent(topic, value=LAST, partition=0)])
        await wait_until(lambda: running.values[-1] == LAST)
        (offsets,) = running.offsets().values()
        first_gap = next(n for n, offset in enumerate(offsets) if n != offset)
        assert offsets == [*range(first_gap), *range(30, 41)]
        assert running.source_status.lost_records == 30 - first_gap
        assert running.assignments[-1].positions == {(topic, 0): 29}
        after = running.items[running.items.index(running.assignments[-1]) + 1]
        assert isinstance(after, Batch)
        assert after.records[0].offset == 30
        await running.probes(2)
        assert running.source_status.state.value is SourceState.LIVE


# ---- a lost broker


async def test_source_starts_without_a_broker() -> None:
    """The feed is starting with a reason, retries, and is live once the broker is there."""
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    topics = new_topics()
    async with feeding(topics, options(address), live=False) as running:
        await wait_until(lambda: "not connected yet" not in running.source_status.reason)
        assert running.source_status.state.value is SourceState.STARTING
        async with embedded_broker(port):
            await running.live()
            await kafka.create_topics(address, topics, 2)
            await Publisher(address).publish(numbered(every_partition(topics, 2), 3))
            await running.received(6)
            assert running.offsets() == same_offsets(every_partition(topics, 2), [0, 1, 2])


async def test_records_arrive_once_over_a_crash_of_the_broker(
    own_apache: ApacheFactory,
) -> None:
    """The feed is stalled without the broker, then live; no record is lost or doubled.

    This holds for a reader of all partitions and for a member of a group.
    """
    topics = new_topics(2)
    partitions = every_partition(topics, 3)
    async with own_apache() as broker:
        address = broker.bootstrap
        await kafka.create_topics(address, topics, 3)
        async with (
            feeding(topics, options(address)) as reader,
            feeding(topics, options(address, group="group")) as member,
        ):
            publisher = Publisher(address)
            await publisher.publish(numbered(partitions, 50))
            for running in reader, member:
                await running.received(300)
            await broker.kill()
            for running in reader, member:
                await running.stalled()
                assert running.source_status.reason
            # The publisher keeps them until the broker is back.
            written: list[TopicPartition] = []
            publisher.queue(numbered(partitions, 50, first=50), written)
            await broker.start()
            await publisher.flush()
            for running in reader, member:
                await running.live()
            await publisher.publish(numbered(partitions, 50, first=100))
            assert len(written) == 300
            for running in reader, member:
                await running.received(900)
                await running.probes(2)
                assert running.offsets() == same_offsets(partitions, range(150))


async def test_waiting_fetch_does_not_delay_probes(apache: str) -> None:
    """A broker answers a connection's requests in order, so fetches have their own connection."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    async with feeding(topics, options(apache, max_wait=20)) as running:
        # In order, they would be answered in a minute.
        with trio.fail_after(15):
            await running.probes(3)
        assert running.source_status.state.value is SourceState.LIVE, running.source_status.reason


async def test_frozen_broker_stalls_the_feed() -> None:
    """A broker with open connections that answers nothing is stalled in bounded time."""
    topics = new_topics()
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap, topics, 1)
        async with feeding(topics, options(broker.bootstrap)) as running:
            broker.pause()
            # The last probe's result may be one interval old; the next probe has a time-out for
            # each of two requests.
            await running.stalled(seconds=3 * 0.5 + 1)
            assert running.source_status.reason.endswith(": no response within 0.5 s")
            broker.unpause()
            await running.live()
            await Publisher(broker.bootstrap).publish([Sent(topics[0], value=LAST)])
            await running.received(1)


# ---- back-pressure and rate limiting


async def test_full_channel_stops_fetching(apache: str) -> None:
    """While nothing is received, Kafka keeps the records and no position moves; then all arrive."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 2)
    partitions = every_partition(topics, 2)
    publisher = Publisher(apache)
    async with feeding(topics, options(apache)) as running:
        running.takes.value = False
        await publisher.publish(numbered(partitions, 3000))
        await running.probes(3)
        (lag,) = running.source_status.lag.values()
        # One batch was received before, and nothing else has left Kafka.
        assert len(running.batches) == 1
        assert lag == 6000 - len(running.records)
        await publisher.publish(numbered(partitions, 3000, first=3000))
        await running.probes(3)
        assert running.source_status.lag == {topics[0]: lag + 6000}
        assert running.source_status.state.value is SourceState.LIVE, running.source_status.reason
        running.takes.value = True
        await running.received(12_000)
        assert running.offsets() == same_offsets(partitions, range(6000))
        await wait_until(lambda: running.source_status.lag == {topics[0]: 0})


async def test_rate_limit_delays_and_drops_no_record(apache: str) -> None:
    """Records arrive no faster than the limit, the feed reports `paced`, and all of them arrive."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 2)
    partitions = every_partition(topics, 2)
    async with feeding(topics, options(apache, rate=200)) as running:
        # One slot's worth may arrive at once and need not wait.
        started = trio.current_time()
        await Publisher(apache).publish(numbered(partitions, 200))
        await wait_until(lambda: running.source_status.paced)
        await wait_until(lambda: running.source_status.lag[topics[0]] > 0)
        await running.received(400)
        assert trio.current_time() - started >= (400 - 10) / 200
        assert running.offsets() == same_offsets(partitions, range(200))
        await wait_until(lambda: not running.source_status.paced)


async def test_allowed_burst_does_not_stay_paced(apache: str) -> None:
    """As many records as one burst allows do not leave the feed paced."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    async with feeding(topics, options(apache, rate=200)) as running:
        await Publisher(apache).publish(numbered(every_partition(topics, 1), 10))
        await running.received(10)
        await wait_until(lambda: not running.source_status.paced)


async def test_lag_is_measured_per_topic(apache: str) -> None:
    """While nothing is received, each topic's lag is its number of waiting records."""
    first, second = topics = new_topics(2)
    await kafka.create_topics(apache, topics, 2)
    async with feeding(topics, options(apache)) as running:
        assert running.source_status.lag == {first: 0, second: 0}
        running.takes.value = False
        publisher = Publisher(apache)
        await publisher.publish([Sent(first, partition=0)])
        await wait_until(lambda: running.batches)
        await publisher.publish([Sent(first, partition=1)] * 7 + [Sent(second, partition=0)] * 3)
        await wait_until(lambda: running.source_status.lag == {first: 7, second: 3})
