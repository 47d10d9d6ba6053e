"""Start offsets of a source at brokers that cannot look them up by time."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.protocol import ListOffsetsRequest
from odin_ws.kafka.source_status import SourceState
from tests.kafka.fake_log import now_ms
from tests.kafka.sources import PATIENCE, SOCIAL, TRADES, sourcing, whole

YESTERDAY = 24 * 3600 * 1000


async def test_topic_without_timestamps_visible_late_starts_at_its_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up by time fails forever; none of its records is known to be new."""
    cluster = whole()
    cluster.publish(TRADES, 7, published_ms=now_ms() - YESTERDAY)
    cluster.undated.add(TRADES)
    cluster.hidden.add("odin.trades")
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(20)
        cluster.hidden.clear()
        await trio.sleep(2 * PATIENCE)
        assert received.problems() == []
        cluster.publish(TRADES, 2)
        await trio.sleep(1)
        assert received.offsets(TRADES) == [7, 8]


async def test_partition_without_timestamps_starts_without_history(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new records come; other partitions have their history."""
    cluster = whole()
    cluster.undated.add(TRADES)
    cluster.publish(TRADES, 3)
    cluster.publish(SOCIAL, 3)
    async with sourcing(cluster, monkeypatch, history_seconds=60, history_records=100) as received:
        await trio.sleep(1)
        assert received.source_status.state.value is SourceState.LIVE
        assert received.assignments[0].history[TRADES] == 2
        assert received.assignments[0].history[SOCIAL] == -1
        cluster.publish(TRADES, 1)
        await trio.sleep(1)
        assert received.offsets(TRADES) == [3]


async def test_broker_without_list_offsets_stops_only_its_partitions(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again with back-off, health has the reason, the others are live."""
    cluster = whole()
    node = cluster.leaders[TRADES]
    assert node is not None
    assert cluster.leaders[SOCIAL] != node
    cluster.without_list_offsets = {node}
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(60)
        assert received.source_status.state.value is SourceState.LIVE
        cluster.publish(SOCIAL, 1)
        await trio.sleep(1)
        assert received.offsets(SOCIAL) == [0]
        (problem,) = [text for text in received.problems() if text.startswith("odin.trades 0")]
        assert "versions 0 to 0 of ListOffsets" in problem
        before = len(cluster.requests(ListOffsetsRequest, node=node))
        await trio.sleep(60)
        assert len(cluster.requests(ListOffsetsRequest, node=node)) - before <= 60 / PATIENCE * 4
