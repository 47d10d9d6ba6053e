"""The status lists lasting partition problems, and does not flap."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.sources import PATIENCE, SOCIAL, TOPICS, TRADES, TRADES_1, sourcing, whole

STARTING, LIVE, STALLED = SourceState.STARTING, SourceState.LIVE, SourceState.STALLED
READ_DENIED = "not authorized to read the topic (READ)"


async def test_dead_partition_leaves_the_feed_live(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed after the patience, its topic is stalled, and both end on recovery."""
    cluster = whole(TRADES_1)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        with capture_logs() as logs:
            cluster.move(TRADES, None)
            await trio.sleep(PATIENCE - 1)
            assert received.problems() == []
            await trio.sleep(37)
            assert received.source_status.state.value is LIVE
            assert received.problems() == ["odin.trades 0: no leader"]
            assert received.source_status.stalled_topics.value == {"odin.trades"}
            cluster.publish(SOCIAL)
            cluster.publish(TRADES_1)
            await trio.sleep(0.1)
            assert received.offsets(SOCIAL) == received.offsets(TRADES_1) == [0]
            cluster.publish(TRADES, 3)
            cluster.move(TRADES, 2)
            await trio.sleep(3)
            assert received.offsets(TRADES) == [0, 1, 2]
        assert received.problems() == []
        assert received.changes == [STARTING, LIVE]
        assert received.topic_changes == [frozenset(), {"odin.trades"}, frozenset()]
        assert [line["event"] for line in logs] == [
            "partitions unavailable",
            "partitions available again",
        ]


async def test_all_brokers_down_stalls_the_feed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the patience; on recovery no topic is reported as stalled."""
    cluster = whole(TRADES_1)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        cluster.down |= {0, 1, 2}
        cluster.change()
        await trio.sleep(PATIENCE - 1)
        assert received.source_status.state.value is LIVE
        await trio.sleep(3)
        assert received.source_status.state.value is STALLED
        assert "connection refused" in received.source_status.reason
        await trio.sleep(60)
        cluster.publish(TRADES, 5)
        cluster.forget_sessions()
        # They come back one after the other.
        for node in (0, 1, 2):
            cluster.down.discard(node)
            await trio.sleep(1)
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == list(range(5))
        assert received.changes == [STARTING, LIVE, STALLED, LIVE]
        assert received.topic_changes == [frozenset()]


@pytest.mark.parametrize("leaderless", [(TRADES, TRADES_1, SOCIAL), (TRADES, TRADES_1)])
async def test_outage_after_leaders_were_lost_has_its_own_reason(
    leaderless: tuple[TopicPartition, ...],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stopping broker lists no leaders; later it rejects us, which is why nothing is read."""
    cluster = whole(TRADES_1)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        for key in leaderless:
            cluster.move(key, None)
        await trio.sleep(1)
        cluster.down |= {0, 1, 2}
        cluster.change()
        with capture_logs() as logs:
            await trio.sleep(3 * PATIENCE)
        assert received.source_status.state.value is STALLED
        assert "connection refused" in received.source_status.reason
        assert "connection refused" in logs[-1]["reason"]


async def test_topic_stalled_before_an_outage_stays_stalled_after_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partitions are not logged as available again either."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        cluster.errors[TRADES] = 56
        cluster.publish(TRADES)
        await trio.sleep(30)
        assert received.source_status.stalled_topics.value == {"odin.trades"}
        cluster.down |= {0, 1, 2}
        cluster.change()
        await trio.sleep(30)
        assert received.source_status.state.value is STALLED
        before = len(received.topic_changes)
        with capture_logs() as logs:
            cluster.down.clear()
            cluster.forget_sessions()
            await trio.sleep(3 * PATIENCE)
        assert received.source_status.state.value is LIVE
        assert {"odin.trades"} in received.topic_changes
        assert all("odin.trades" in change for change in received.topic_changes[before:])
        assert not [
            log
            for log in logs
            if log["event"] == "partitions available again" and log["topic"] == "odin.trades"
        ]


@pytest.mark.parametrize("code", [6, 78, -1, 7, 56, 74])
async def test_short_errors_are_not_shown(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Of a partition, of all, or of metadata."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        with capture_logs() as logs:
            for _ in range(10):
                cluster.errors |= dict.fromkeys(cluster.leaders, code)
                for key in cluster.leaders:
                    cluster.publish(key)
                cluster.topic_errors["odin.social"] = 5
                await trio.sleep(3)
                cluster.errors.clear()
                cluster.topic_errors.clear()
                cluster.change()
                await trio.sleep(7)
        assert received.changes == [STARTING, LIVE]
        assert received.topic_changes == [frozenset()]
        assert [log for log in logs if log["log_level"] != "debug"] == []
        assert received.offsets(TRADES) == list(range(10))


async def test_start_without_kafka_has_a_reason(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once, and the feed starts when Kafka is available."""
    cluster = whole()
    cluster.down |= {0, 1, 2}
    with capture_logs() as logs:
        async with sourcing(cluster, monkeypatch) as received:
            await trio.sleep(1)
            assert received.source_status.state.value is STARTING
            assert "connection refused" in received.source_status.reason
            await trio.sleep(60)
            assert len(cluster.metadata_requests) <= 130
            cluster.down.clear()
            await trio.sleep(4)
            assert received.changes == [STARTING, LIVE]
    assert len([log for log in logs if log["event"] == "Kafka unavailable, retrying"]) == 1


@pytest.mark.parametrize("code", [29])
async def test_topic_without_read_permission_leaves_others_live(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The instance becomes ready after the patience; the problem names topic and permission."""
    cluster = whole()
    cluster.errors[TRADES] = code
    cluster.publish(TRADES)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        assert received.source_status.reason == READ_DENIED
        for topic in TOPICS:
            cluster.publish(TopicPartition(topic, 0))
        await trio.sleep(PATIENCE)
        assert received.changes == [STARTING, LIVE]
        assert received.problems() == [f"odin.trades 0: {READ_DENIED}"]
        assert {one.topic for one in received.news} == {*TOPICS} - {"odin.trades"}
        assert received.source_status.held_partitions == 0
        since = trio.current_time()
        await trio.sleep(60)
        assert received.changes == [STARTING, LIVE]
        # Retried 2.5 s apart on average: with full jitter 24 times, give or take 3 each way.
        retries = [fetche for fetche in cluster.fetches(since) if TRADES in fetche.request.changed]
        assert 10 <= len(retries) <= 45
        cluster.errors.clear()
        await trio.sleep(6)
        assert received.problems() == []
        assert received.offsets(TRADES) == [1]


async def test_topic_without_describe_permission_leaves_others_live(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not listed as missing."""
    cluster = whole()
    cluster.denied.add("odin.trades")
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(PATIENCE + 1)
        assert received.changes == [STARTING, LIVE]
        assert received.problems() == ["odin.trades: not authorized to see the topic (DESCRIBE)"]
        assert received.source_status.missing_topics == frozenset()
        cluster.denied.clear()
        await trio.sleep(PATIENCE + 1)
        assert received.problems() == []


async def test_no_permissions_keep_the_feed_starting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is the permission, not missing topics."""
    cluster = whole()
    cluster.denied |= {*TOPICS}
    async with sourcing(cluster, monkeypatch) as received:
        for _ in range(20):
            await trio.sleep(1)
            assert received.source_status.state.value is STARTING
            assert received.source_status.reason == "not authorized to see the topic (DESCRIBE)"
        assert received.source_status.missing_topics == frozenset()
        cluster.denied.clear()
        await trio.sleep(PATIENCE + 1)
        assert received.changes == [STARTING, LIVE]


async def test_no_read_permission_keeps_the_feed_starting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the patience; and it recovers."""
    cluster = whole()
    cluster.errors |= dict.fromkeys(cluster.leaders, 29)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(20)
        assert received.source_status.state.value is STARTING
        assert received.source_status.reason == READ_DENIED
        cluster.errors.clear()
        await trio.sleep(6)
        assert received.changes == [STARTING, LIVE]


async def test_layout_is_requested_at_most_twice_per_interval(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instance requests it."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch):
        await trio.sleep(60)
        assert 10 <= len(cluster.metadata_requests) <= 14


async def test_layout_requests_back_off_while_a_problem_lasts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon at first, then less often."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch):
        await trio.sleep(10)
        cluster.move(TRADES, None)
        before = len(cluster.metadata_requests)
        await trio.sleep(1)
        assert len(cluster.metadata_requests) > before
        await trio.sleep(60)
        assert len(cluster.metadata_requests) - before <= 120


async def test_feed_stays_live_without_metadata(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With partitions, fetches show the state."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.metadata_fails = True
        cluster.publish(TRADES)
        await trio.sleep(4 * PATIENCE)
        assert received.changes == [STARTING, LIVE]
        assert received.offsets(TRADES) == [0]


async def test_new_problem_requests_layout_soon(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an earlier problem lasted."""
    monkeypatch.setattr("odin_ws.backoff.random.uniform", lambda _least, maximum: maximum)
    cluster = whole()
    async with sourcing(cluster, monkeypatch):
        await trio.sleep(10)
        cluster.move(TRADES, None)
        await trio.sleep(60)
        cluster.move(TRADES, 0)
        await trio.sleep(20)
        cluster.move(TRADES, None)
        cluster.move(SOCIAL, None)
        before = trio.current_time()
        await trio.sleep(PATIENCE)
        asked = [request - before for request in cluster.metadata_requests if request > before]
        assert asked[1] - asked[0] <= 0.4


async def test_wrong_advertised_addresses_are_reported_without_topics(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fetch would find out; one broker that responds is enough."""
    cluster = FakeCluster({})
    cluster.astray |= cluster.brokers.keys()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(PATIENCE)
        assert received.source_status.state.value is STARTING
        assert "broker 1: the name does not resolve" in str(received.source_status.reason)
        cluster.astray.remove(1)
        await trio.sleep(PATIENCE)
        assert received.source_status.state.value is LIVE
        cluster.metadata_fails = True
        await trio.sleep(PATIENCE / 2)
        assert received.source_status.state.value is LIVE
        await trio.sleep(2 * PATIENCE)
        assert received.source_status.state.value is STALLED
