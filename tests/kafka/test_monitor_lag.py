"""The status has the lag of each topic, and the delay of the oldest record that was not read."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState
from tests.kafka.sources import PATIENCE, SOCIAL, TRADES, TRADES_1, sourcing, whole


async def test_lag_is_measured_from_the_high_watermark(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of an open transaction are lag, and shown as held after 5 s."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 4, producer=3)
        cluster.publish(TRADES, 2)
        await trio.sleep(4)
        assert (received.source_status.held_partitions, received.problems()) == (0, [])
        await trio.sleep(2 * PATIENCE)
        assert received.source_status.lag["odin.trades"] == 6
        assert received.source_status.held_partitions == 1
        assert received.problems() == [
            "odin.trades 0: an open transaction holds back the newest records"
        ]
        assert received.source_status.stalled_topics.value == frozenset()
        cluster.logs[TRADES].end_transaction(3, commit=True)
        cluster.change()
        await trio.sleep(2 * PATIENCE)
        assert received.source_status.lag["odin.trades"] == 0
        assert received.source_status.held_partitions == 0
        assert received.problems() == []


async def test_delay_is_the_age_of_the_oldest_unread_record(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within two probes, and as steady as the delay: reaching an earlier end does not end it."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch, rate=10) as received:
        status = received.source_status
        await trio.sleep(1)
        cluster.publish_each(TRADES, 200)
        await trio.sleep(15)
        # 20 records a second are published, and 10 are read.
        for _ in range(60):
            cluster.publish_each(TRADES, 20)
            await trio.sleep(1)
        assert status.state.value is SourceState.LIVE
        # All of the first 800 were published before the last 60 s.
        delays = []
        for _ in range(8):
            await trio.sleep(PATIENCE)
            delays.append(status.behind_seconds)
        assert min(delays) > 25
        await trio.sleep(120)
        assert status.behind_seconds == 0


async def test_delay_by_a_transaction_or_a_shown_problem_does_not_count(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health names these reasons itself."""
    cluster = whole(TRADES_1)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 4, producer=3)
        cluster.errors[TRADES_1] = 56
        cluster.publish(TRADES_1, 4)
        await trio.sleep(60)
        assert len(received.problems()) == 2
        assert received.source_status.lag["odin.trades"] > 0
        assert received.source_status.behind_seconds == 0


async def test_silent_leader_keeps_the_lag_of_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partitions count with their last known end."""
    cluster = whole()
    cluster.leaders |= {TRADES: 1, SOCIAL: 2}
    async with sourcing(cluster, monkeypatch, rate=1) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 100)
        cluster.publish(SOCIAL, 200)
        await trio.sleep(2 * PATIENCE)
        cluster.hanging.add(1)
        cluster.publish(SOCIAL, 300)
        await trio.sleep(3 * PATIENCE)
        assert 50 <= received.source_status.lag["odin.trades"] <= 100
        assert 450 <= received.source_status.lag["odin.social"] <= 500


async def test_lag_uses_queries_and_fetches(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is enough if the other fails. An end offset stays while neither reports one."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.errors[TRADES] = 56
        cluster.query_errors[SOCIAL] = 78
        await trio.sleep(1)
        cluster.publish(TRADES, 4)
        cluster.publish(SOCIAL, 6, producer=3)
        await trio.sleep(2 * PATIENCE)
        assert received.source_status.lag["odin.trades"] == 4
        assert received.source_status.lag["odin.social"] == 6
        cluster.query_errors[TRADES] = 78
        await trio.sleep(2 * PATIENCE)
        assert received.source_status.lag["odin.trades"] == 4


async def test_lag_after_a_truncation_is_that_of_the_new_log(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old end offset is dropped."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish_each(TRADES, 10)
        await trio.sleep(2 * PATIENCE)
        cluster.move(TRADES, cluster.leaders[TRADES], keeps=2)
        await trio.sleep(4 * PATIENCE)
        assert received.source_status.lag["odin.trades"] == 0
