"""The hub's view of a cluster: start offsets, history and skipped offsets."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.protocol import ListOffsetsRequest
from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Batch, Item
from tests.kafka.fake_log import now_ms
from tests.kafka.sources import PATIENCE, SOCIAL, TRADES, TRADES_1, Received, sourcing, whole

YESTERDAY = 24 * 3600 * 1000


async def test_without_history_reading_starts_at_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One assignment, the end of an empty history, then new records."""
    cluster = whole()
    cluster.publish(TRADES, 10)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        assert received.has_history_end
        assert received.assignments[0].positions[TRADES] == 9
        assert received.assignments[0].topic_ids == cluster.topic_ids
        cluster.publish(TRADES, 2)
        await trio.sleep(0.1)
        assert received.offsets(TRADES) == [10, 11]
        assert len(received.assignments) == 1
        # Offsets of records are not sent again as passed.
        batches = [item for item in received.items if isinstance(item, Batch)]
        assert [(len(batch.records), dict(batch.passed)) for batch in batches] == [(2, {})]


async def test_history_is_read_before_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within age and count; only later records are new."""
    cluster = whole()
    cluster.publish(TRADES, 5, published_ms=now_ms() - YESTERDAY)
    cluster.publish_each(TRADES, 10)
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=8) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        first = received.assignments[0]
        assert (first.history[TRADES], first.positions[TRADES]) == (6, 14)
        assert received.has_history_end
        assert received.news == []
        assert len(received.ingest.history) == 8


async def test_source_is_live_as_soon_as_its_history_is_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status does not wait for its next evaluation."""
    cluster, hub_is_free = whole(), trio.Event()
    cluster.publish_each(TRADES, 10)
    async with sourcing(
        cluster, monkeypatch, hub_is_free, history_seconds=60, history_records=100
    ) as received:
        await trio.sleep(3)
        hub_is_free.set()
        with trio.fail_after(0.1):
            await received.source_status.state.wait_value(SourceState.LIVE)


async def test_history_that_ends_with_a_marker_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record follows; the position is that of the marker."""
    cluster = whole()
    cluster.publish(TRADES, 3, producer=4)
    cluster.logs[TRADES].end_transaction(4, commit=True)
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=100) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        assert received.ingest.stream.position(TRADES) == 3


async def test_partition_without_leader_at_the_start_starts_later(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are live after the patience, and older records are not new."""
    cluster = whole()
    cluster.publish(TRADES, 7, published_ms=now_ms() - YESTERDAY)
    node = cluster.leaders[TRADES]
    cluster.leaders[TRADES] = None
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(SOCIAL)
        await trio.sleep(0.2)
        assert received.offsets(SOCIAL) == [0]
        await trio.sleep(PATIENCE)
        assert received.source_status.state.value is SourceState.LIVE
        assert received.problems() == ["odin.trades 0: no leader"]
        cluster.leaders[TRADES] = node
        cluster.publish(TRADES, 3)
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == [7, 8, 9]
        assert received.problems() == []


async def test_topic_visible_late_starts_at_records_since_the_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 records of yesterday are not new."""
    cluster = whole()
    cluster.publish(TRADES, 3000, published_ms=now_ms() - YESTERDAY)
    cluster.hidden.add("odin.trades")
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(20)
        cluster.publish(TRADES, 2)
        cluster.hidden.clear()
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == [3000, 3001]


async def test_added_partition_is_read_from_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the timestamps: all its records came after the start."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(20)
        cluster.add(TRADES_1)
        cluster.publish(TRADES_1, 4, published_ms=now_ms() - YESTERDAY)
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES_1) == [0, 1, 2, 3]
        assert received.assignments[-1].positions[TRADES_1] == -1
        assert received.assignments[-1].gaps == {}


async def test_new_topic_is_read_from_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is missing until it exists."""
    cluster = whole()
    del cluster.leaders[TRADES], cluster.logs[TRADES]
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        assert received.source_status.missing_topics == {"odin.trades"}
        cluster.add(TRADES)
        cluster.publish(TRADES, 4)
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == [0, 1, 2, 3]
        assert received.source_status.missing_topics == frozenset()


async def test_start_offset_lookup_follows_a_moved_leader(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the old leader requests metadata."""
    cluster = whole()
    cluster.query_errors[TRADES] = 6
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(0.1)
        before = len(cluster.metadata_requests)
        await trio.sleep(3)
        assert len(cluster.metadata_requests) > before + 2
        assert len(cluster.requests(ListOffsetsRequest)) < 60
        cluster.query_errors.clear()
        await trio.sleep(PATIENCE)
        cluster.publish(TRADES)
        await trio.sleep(0.1)
        assert received.offsets(TRADES) == [0]


async def test_unreadable_history_is_skipped_after_the_patience(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance is live then; new records of the partition come later."""
    cluster = whole()
    cluster.publish(TRADES, 5)
    cluster.publish(SOCIAL, 5)
    cluster.errors[TRADES] = 56
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=100) as received:
        await trio.sleep(PATIENCE - 1)
        assert received.changes == [SourceState.STARTING]
        assert received.source_status.reason == "KAFKA_STORAGE_ERROR (56)"
        await trio.sleep(3)
        assert received.changes == [SourceState.STARTING, SourceState.LIVE]
        assert received.problems() == ["odin.trades 0: KAFKA_STORAGE_ERROR (56)"]
        del cluster.errors[TRADES]
        cluster.publish(TRADES, 1)
        # The past is not asked for any more.
        (again,) = [
            fetche.request.changed[TRADES]
            for fetche in cluster.fetches()
            if TRADES in fetche.request.changed
        ][-1:]
        assert again.offset >= 5
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == [5]
        assert received.problems() == []


async def test_history_is_read_after_a_short_problem(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped only after the patience."""
    cluster = whole()
    cluster.publish(TRADES, 5)
    cluster.errors[TRADES] = 56
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=100) as received:
        await trio.sleep(PATIENCE / 2)
        cluster.errors.clear()
        await trio.sleep(PATIENCE)
        assert len(received.ingest.history) == 5
        assert received.news == []


async def test_topic_recreated_during_history_is_new(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history was of the old topic."""
    cluster = whole()
    cluster.publish(TRADES, 10)
    cluster.errors[TRADES] = 6
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=100) as received:
        await trio.sleep(0.5)
        cluster.recreate("odin.trades", 1)
        cluster.publish(TRADES, 4)
        cluster.errors.clear()
        await trio.sleep(2 * PATIENCE)
        assert received.offsets(TRADES) == [0, 1, 2, 3]


async def test_rate_does_not_delay_the_history(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is remembered, not broadcast."""
    cluster = whole()
    for _ in range(10):
        cluster.publish(TRADES, 500)
    options = {"rate": 100, "history_seconds": 60, "history_records": 10_000}
    async with sourcing(cluster, monkeypatch, **options) as received:
        await trio.sleep(3)
        assert received.source_status.state.value is SourceState.LIVE
        assert len(received.ingest.history) == 5000


async def test_transaction_open_at_the_start_is_delivered_when_it_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading starts before its records."""
    cluster = whole()
    cluster.publish(TRADES, 3, producer=4)
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        assert received.ingest.stream.position(TRADES) == -1
        cluster.logs[TRADES].end_transaction(4, commit=True)
        cluster.change()
        await trio.sleep(1)
        assert received.offsets(TRADES) == [0, 1, 2]


async def test_topic_visible_late_without_new_records_starts_at_its_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record since the start has an offset to find."""
    cluster = whole()
    cluster.publish(TRADES, 7, published_ms=now_ms() - YESTERDAY)
    cluster.hidden.add("odin.trades")
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(10)
        cluster.hidden.clear()
        await trio.sleep(3 * PATIENCE)
        assert received.ingest.stream.position(TRADES) == 6
        cluster.publish(TRADES)
        await trio.sleep(1)
        assert received.offsets(TRADES) == [7]
        assert received.source_status.lost_records == 0


async def test_instances_have_equal_positions_after_markers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One started before the transaction, the other after its marker."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as early:
        await trio.sleep(1)
        cluster.publish(TRADES, 3, producer=4)
        cluster.logs[TRADES].end_transaction(4, commit=True)
        cluster.publish(SOCIAL, 2, producer=4)
        cluster.logs[SOCIAL].end_transaction(4, commit=False)
        cluster.logs[SOCIAL].skip_offsets(3)
        cluster.publish(SOCIAL)
        cluster.change()
        await trio.sleep(1)
        async with sourcing(cluster, monkeypatch) as late:
            await trio.sleep(1)
            for key in (TRADES, SOCIAL):
                assert early.ingest.stream.position(key) == late.ingest.stream.position(key)
                assert early.ingest.stream.position(key) == cluster.logs[key].end - 1
        assert early.offsets(TRADES) == [0, 1, 2]
        assert early.offsets(SOCIAL) == [6]
        # And where nothing but an aborted transaction comes, also of one record.
        for count in 2, 1:
            cluster.publish(SOCIAL, count, producer=5)
            cluster.logs[SOCIAL].end_transaction(5, commit=False)
            cluster.change()
            await trio.sleep(1)
            assert early.ingest.stream.position(SOCIAL) == cluster.logs[SOCIAL].end - 1


async def test_delivered_records_are_no_lag(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an open transaction are."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        cluster.publish(TRADES, 3)
        cluster.publish(SOCIAL, 2, producer=4)
        await trio.sleep(3 * PATIENCE)
        lag = received.source_status.lag
        assert (lag[TRADES.topic], lag[SOCIAL.topic]) == (0, 2)
        cluster.logs[SOCIAL].end_transaction(4, commit=True)
        cluster.change()
        await trio.sleep(3 * PATIENCE)
        assert set(received.source_status.lag.values()) == {0}


async def test_rate_limits_reading_and_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog comes at the rate; a quiet partition's record does not wait for it."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch, rate=1000) as received:
        await trio.sleep(1)
        for _ in range(20):
            cluster.publish(TRADES, 500)
        await trio.sleep(2)
        assert 1900 <= len(received.offsets(TRADES)) <= 2200
        assert received.source_status.paced
        cluster.publish(SOCIAL)
        await trio.sleep(0.11)
        assert received.offsets(SOCIAL) == [0]
        await trio.sleep(10)
        assert received.offsets(TRADES) == list(range(10_000))
        assert not received.source_status.paced


async def test_backlog_without_a_limit_is_not_paced(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paced means that the rate holds records back, not that more records are buffered."""
    paced: list[bool] = []
    take = Received.take

    def note(received: Received, item: Item) -> None:
        paced.append(received.source_status.paced)
        take(received, item)

    monkeypatch.setattr(Received, "take", note)
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        for _ in range(9):
            cluster.publish(TRADES, 1000)
        await trio.sleep(5)
        assert len(received.offsets(TRADES)) == 9000
    assert len(paced) > 5
    assert not any(paced)


async def test_records_deleted_during_the_history_leave_the_rest_history(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients do not get the rest as new records, and nothing counts as lost."""
    cluster = whole()
    cluster.publish_each(TRADES, 10)
    cluster.errors[TRADES] = 9
    async with sourcing(cluster, monkeypatch, history_seconds=600, history_records=100) as received:
        await trio.sleep(0.2)
        assert received.assignments[0].history[TRADES] == -1
        cluster.logs[TRADES].delete_before(5)
        cluster.errors.clear()
        await trio.sleep(PATIENCE)
        assert received.has_history_end
        cluster.publish(TRADES)
        await trio.sleep(1)
        assert received.offsets(TRADES) == [10]
        kept = received.ingest.history.newest(-math.inf, 100)[0]
        assert sorted(message.record.offset for message in kept) == [5, 6, 7, 8, 9, 10]
        assert received.source_status.lost_records == 0
