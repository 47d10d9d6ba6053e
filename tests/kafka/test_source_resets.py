"""Recreated, truncated and shortened logs: what the hub gets of them."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import GapReason, TopicPartition
from tests.kafka.sources import PATIENCE, SOCIAL, TRADES, TRADES_1, sourcing, whole

SOCIAL_1 = TopicPartition(SOCIAL.topic, 1)


async def test_unclean_election_before_first_record_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new leader has fewer records, and more again before the next fetch."""
    cluster = whole()
    cluster.publish(TRADES, 4)
    cluster.publish(TRADES, 6)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        cluster.move(TRADES, ((cluster.leaders[TRADES] or 0) + 1) % 3, keeps=4)
        cluster.publish(TRADES, 20)
        await trio.sleep(10)
        gaps = {key: one for item in received.assignments for key, one in item.gaps.items()}
        assert gaps == {TRADES: GapReason.TRUNCATED}
        assert received.offsets(TRADES) == list(range(4, 24))


async def test_recreated_topic_is_a_reset_to_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id, even with more records than before."""
    cluster = whole()
    cluster.publish(TRADES, 3)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.recreate("odin.trades", 2)
        cluster.publish(TRADES, 8)
        cluster.publish(TRADES_1, 2)
        await trio.sleep(3 * PATIENCE)
        assert received.offsets(TRADES) == list(range(8))
        assert received.offsets(TRADES_1) == [0, 1]
        gaps = [assignment.gaps for assignment in received.assignments if assignment.gaps]
        assert gaps == [{TRADES: GapReason.RECREATED}]
        assert received.assignments[-1].topic_ids["odin.trades"] == cluster.topic_ids["odin.trades"]
        assert received.source_status.lost_records == 0


async def test_topic_recreated_during_an_upgrade_is_a_reset(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Brokers that are not upgraded yet leave the ids out of their metadata."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 3)
        await trio.sleep(1)
        cluster.ids_in_metadata = False
        await trio.sleep(10)
        cluster.recreate(TRADES.topic, 1)
        cluster.publish(TRADES, 5)
        await trio.sleep(0.5)
        cluster.ids_in_metadata = True
        await trio.sleep(20)
        gaps = [assignment.gaps for assignment in received.assignments if assignment.gaps]
        assert gaps == [{TRADES: GapReason.RECREATED}]
        assert received.offsets(TRADES) == [0, 1, 2, 0, 1, 2, 3, 4]


async def test_absent_topic_without_ids_is_not_fetched(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leader would return records of the new log at the old position."""
    cluster = whole()
    cluster.has_ids = False
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 5)
        await trio.sleep(1)
        cluster.hidden.add("odin.trades")
        cluster.errors[TRADES] = 3
        await trio.sleep(8)
        # The brokers have another topic of that name, and the metadata that is asked for lags.
        leader = cluster.leaders[TRADES]
        cluster.recreate("odin.trades", 1)
        cluster.leaders[TRADES] = leader
        cluster.publish(TRADES, 12)
        del cluster.errors[TRADES]
        await trio.sleep(20)
        assert received.offsets(TRADES) == list(range(5))
        cluster.hidden.clear()
        await trio.sleep(10)
        assert received.offsets(TRADES) == [*range(5), *range(12)]
        assert received.source_status.state.value is SourceState.LIVE


async def test_new_topic_id_is_sent_with_the_reset(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, while its first offset is unknown."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.query_errors[TRADES] = 78
        cluster.recreate("odin.trades", 1)
        cluster.add(SOCIAL_1)
        await trio.sleep(3 * PATIENCE)
        grown = received.assignments[-1]
        assert SOCIAL_1 in grown.positions
        assert "odin.trades" not in grown.topic_ids
        cluster.query_errors.clear()
        await trio.sleep(2 * PATIENCE)
        reported = received.assignments[-1]
        assert reported.gaps == {TRADES: GapReason.RECREATED}
        assert reported.topic_ids["odin.trades"] == cluster.topic_ids["odin.trades"]


async def test_new_topic_id_is_sent_with_the_first_of_several_resets(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offset of another partition of the topic is still unknown then."""
    cluster = whole(TRADES_1)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.query_errors[TRADES_1] = 78
        cluster.recreate("odin.trades", 2)
        await trio.sleep(3 * PATIENCE)
        (reported,) = [item for item in received.assignments if item.gaps]
        assert reported.gaps == {TRADES: GapReason.RECREATED}
        assert reported.topic_ids["odin.trades"] == cluster.topic_ids["odin.trades"]


async def test_topic_id_that_becomes_known_before_the_assignment_is_taken_resets_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brokers are upgraded: the topic is the same, and none of its old records is new."""
    cluster, hub_is_free = whole(), trio.Event()
    cluster.logs[TRADES].append([b"{}"] * 7, published_ms=1)
    cluster.ids_in_metadata = False
    async with sourcing(cluster, monkeypatch, hub_is_free) as source:
        await trio.sleep(1)
        cluster.ids_in_metadata = True
        await trio.sleep(30)
        hub_is_free.set()
        await trio.sleep(10)
        cluster.publish(TRADES)
        await trio.sleep(10)
        assert source.offsets(TRADES) == [7]


async def test_recreated_topic_with_fewer_partitions_loses_the_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave the assignment without a problem; recreated ones start anew."""
    cluster = whole(TRADES_1)
    cluster.publish(TRADES_1, 5)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.recreate("odin.trades", 1)
        await trio.sleep(3 * PATIENCE)
        assert TRADES_1 not in received.assignments[-1].positions
        assert received.problems() == []
        cluster.add(TRADES_1)
        cluster.publish(TRADES_1, 2)
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES_1) == [0, 1]


async def test_truncated_log_is_a_reset_to_the_divergence(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record is delivered twice."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish_each(TRADES, 10)
        await trio.sleep(0.2)
        cluster.move(TRADES, cluster.leaders[TRADES], keeps=6)
        cluster.publish_each(TRADES, 2)
        await trio.sleep(3)
        assert received.offsets(TRADES) == [*range(10), 6, 7]
        gaps = [assignment for assignment in received.assignments if assignment.gaps]
        assert [gap.gaps for gap in gaps] == [{TRADES: GapReason.TRUNCATED}]
        assert gaps[0].positions[TRADES] == 5


async def test_deleted_records_are_counted_as_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention was faster than the source."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.errors[TRADES] = 56
        cluster.publish_each(TRADES, 10)
        await trio.sleep(1)
        cluster.logs[TRADES].delete_before(7)
        cluster.errors.clear()
        await trio.sleep(8)
        assert received.offsets(TRADES) == [7, 8, 9]
        assert received.source_status.lost_records == 7
        assert [assignment.gaps for assignment in received.assignments if assignment.gaps] == [
            {TRADES: GapReason.EXPIRED}
        ]


async def test_topic_recreated_before_its_assignment_is_taken_is_read_from_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is busy between the look-up of the start offset and the first fetch."""
    cluster, hub_is_free = whole(TRADES_1), trio.Event()
    cluster.logs[TRADES_1].append([b"{}"] * 7, published_ms=1)
    async with sourcing(cluster, monkeypatch, hub_is_free) as source:
        await trio.sleep(1)
        cluster.recreate(TRADES_1.topic, 2)
        cluster.logs[TRADES_1].append([b"{}"] * 10, published_ms=1)
        await trio.sleep(30)
        hub_is_free.set()
        await trio.sleep(10)
        assert source.offsets(TRADES_1) == list(range(10))
