"""/sse and /snapshot while Kafka is in trouble: each record once, or what is lost; no 500."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.records import TopicPartition
from tests.http_api.event_source import Event, EventSource
from tests.http_api.test_snapshot import snapshot
from tests.kafka.cluster_scenario import open_cluster_scenario
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.sources import TOPICS

TRADES = "odin.trades"
KEY, OTHER = TopicPartition(TRADES, 0), TopicPartition(TRADES, 1)
QUERY = "channels=*.trade"

# Longer than KAFKA_PROBE_SECONDS, after which a problem is told.
LONG = 30


def cluster_of_two() -> FakeCluster:
    """Two partitions of trades, on two brokers, and the other topics."""
    others = {TopicPartition(topic, 0): 2 for topic in TOPICS if topic != TRADES}
    return FakeCluster({KEY: 0, OTHER: 1, **others})


def publish(cluster: FakeCluster, key: TopicPartition, count: int) -> None:
    """Append trades to a partition."""
    log = cluster.logs[key]
    log.append([b'{"type":"TRADE_EXECUTED","timestamp":0,"data":0}'] * count)
    cluster.change()


async def everything(source: EventSource, seconds: float = 5) -> list[Event]:
    """All events that come within some seconds."""
    events: list[Event] = []
    with trio.move_on_after(seconds):
        while True:
            events.append(await source.event())
    return events


def places(events: list[Event]) -> list[str]:
    """Partition and offset of each message."""
    return sorted(event.json["pos"] for event in events if event.name == "message")


def feed(events: list[Event]) -> list[dict[str, Any]]:
    """What was told about Kafka."""
    return [event.json for event in events if event.name == "feed"]


def lose_leader(cluster: FakeCluster) -> Callable[[], None]:
    """Leave a partition without a leader; returns what ends that."""
    cluster.move(KEY, None)
    return lambda: cluster.move(KEY, 2)


def lose_broker(cluster: FakeCluster) -> Callable[[], None]:
    """Let a broker be down; returns what ends that."""
    cluster.down = {0}
    cluster.change()
    return cluster.down.clear


def lose_all_brokers(cluster: FakeCluster) -> Callable[[], None]:
    """Let all brokers be down; returns what ends that."""
    cluster.down = {0, 1, 2}
    cluster.change()
    return cluster.down.clear


@pytest.mark.parametrize("ws_history_bytes", [0, 1 << 20])
@pytest.mark.parametrize("fault", [lose_leader, lose_broker, lose_all_brokers])
async def test_fault_loses_no_record_of_a_stream_and_of_a_snapshot(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[FakeCluster], Callable[[], None]],
    ws_history_bytes: int,
) -> None:
    """A stream stays, one that returns in the middle resumes, a snapshot is taken meanwhile."""
    cluster = cluster_of_two()
    async with open_cluster_scenario(
        cluster, monkeypatch, ws_history_bytes=ws_history_bytes
    ) as scenario:
        staying = await EventSource.open(scenario, QUERY)
        leaving = await EventSource.open(scenario, QUERY)
        for key in KEY, OTHER:
            publish(cluster, key, 2)
        assert places(await everything(leaving)) == ["0-0", "0-1", "1-0", "1-1"]
        leaving.stream.break_off()
        end = fault(cluster)
        await trio.sleep(1)
        publish(cluster, KEY, 2)
        await trio.sleep(LONG)
        found = await snapshot(scenario, QUERY)
        assert [message["pos"] for message in found["messages"]] in (["0-1"], ["1-1"])
        assert found["positions"][TRADES] == {"0": 1, "1": 1}
        back = await EventSource.open(scenario, QUERY, last_event_id=leaving.parser.last_event_id)
        assert back.status == 200
        behind = await EventSource.open(scenario, QUERY, last_event_id=found["event_id"])
        end()
        publish(cluster, OTHER, 1)
        await trio.sleep(LONG)
        news = ["0-2", "0-3", "1-2"]
        for source in back, behind:
            events = await everything(source)
            assert places(events) == news
        events = await everything(staying)
        assert places(events) == ["0-0", "0-1", *news[:2], "1-0", "1-1", news[2]]
        assert [item["status"] for item in feed(events)] == ["stalled", "live"]


async def test_recreated_topic_is_told_by_streams_and_snapshots(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records follow from the first one; the former snapshot is gone."""
    cluster = cluster_of_two()
    async with open_cluster_scenario(cluster, monkeypatch) as scenario:
        staying = await EventSource.open(scenario, QUERY)
        leaving = await EventSource.open(scenario, QUERY)
        publish(cluster, KEY, 3)
        await everything(leaving)
        leaving.stream.break_off()
        before = await snapshot(scenario, QUERY)
        cluster.recreate(TRADES, 2)
        await trio.sleep(LONG)
        assert (await snapshot(scenario, QUERY))["messages"] == []
        publish(cluster, KEY, 2)
        await trio.sleep(LONG)
        after = await snapshot(scenario, QUERY)
        assert [message["pos"] for message in after["messages"]] == ["0-1"]
        assert before["ids"] != after["ids"]
        events = await everything(staying)
        assert [event.json["pos"] for event in events if event.name == "message"] == [
            *("0-0", "0-1", "0-2"),
            *("0-0", "0-1"),
        ]
        assert [item["reason"] for item in feed(events) if item["status"] == "lost"] == [
            "recreated"
        ]
        for last_event_id in leaving.parser.last_event_id, before["event_id"]:
            back = await EventSource.open(scenario, QUERY, last_event_id=last_event_id)
            events = await everything(back)
            assert (events[0].json["recovered"], events[0].json["reason"]) == (False, "recreated")
            assert places(events) == ["0-0", "0-1"]


async def test_partition_that_is_not_read_yet_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had no leader when the instance started; later it comes without a gap."""
    cluster = cluster_of_two()
    publish(cluster, KEY, 1)
    publish(cluster, OTHER, 3)
    cluster.move(OTHER, None)
    async with open_cluster_scenario(cluster, monkeypatch) as scenario:
        await trio.sleep(LONG)
        found = await snapshot(scenario, QUERY)
        assert [message["pos"] for message in found["messages"]] == ["0-0"]
        assert found["positions"][TRADES] == {"0": 0}
        past = await EventSource.open(scenario, f"{QUERY}&since_ms=0")
        while "replayed" not in (ack := await past.event()).json:
            assert ack.json.get("status") == "stalled", ack
        assert (ack.json["reason"], ack.json["lost"]) == ("unavailable", {TRADES: {"1": [0, -1]}})
        live = await EventSource.open(scenario, QUERY)
        await everything(live)
        cluster.move(OTHER, 1)
        await trio.sleep(LONG)
        publish(cluster, OTHER, 1)
        assert places(await everything(past))[0] == "0-0"
        (position,) = places(await everything(live))[-1:]
        assert position == "1-3"
