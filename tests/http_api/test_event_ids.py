"""The ids of live streams: shared by streams of the same topics, and whole on each instance."""

from __future__ import annotations

import gc
from collections import deque

import pytest

from odin_ws.http_api.event_ids import (
    EventFormats,
    LiveEventIds,
    PacedEventIds,
    ReplayEventIds,
)
from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.event_id import EventId, parse_event_id
from odin_ws.protocol.wire_format import EventIds, Frames
from odin_ws.records import Assignment, Record, TopicPartition
from tests.hub.hub_driver import make_hub

TRADES, SOCIAL = "odin.trades", "odin.social"
IDS = {TRADES: "t1", SOCIAL: "s1"}


def assign(
    hub: Hub, offsets: dict[int, int], *, partial: bool, ids: dict[str, str] | None = None
) -> None:
    """Have the hub read these partitions of odin.trades, from behind these offsets."""
    positions = {TopicPartition(TRADES, partition): at for partition, at in offsets.items()}
    item = Assignment(positions, partial=partial, topic_ids=IDS if ids is None else ids)
    hub.ingest.take(deque([item]), lambda _message: False, 1)


def test_streams_of_the_same_topics_share_a_format() -> None:
    """So what is written to them is encoded once; nobody keeps it when they have left."""
    hub = make_hub()
    assign(hub, {0: 4}, partial=False)
    formats = EventFormats(hub)
    one, _ = formats.live([TRADES], Frames.SINGLE, None)
    other, _ = formats.live([TRADES], Frames.SINGLE, EventId({TRADES: {0: 1}}))
    assert other is one
    assert formats.live([TRADES], Frames.BATCH, None)[0] is not one
    assert formats.live([TRADES, SOCIAL], Frames.SINGLE, None)[0] is not one
    del one, other
    gc.collect()
    assert not len(formats._formats)  # noqa: SLF001 -- what is kept is all that matters here


def test_id_follows_partitions_that_are_added() -> None:
    """Whoever resumes names all there are: the others would count as new."""
    hub = make_hub()
    assign(hub, {0: 4}, partial=False)
    _, ids = EventFormats(hub).live([TRADES], Frames.SINGLE, None)
    assert parse_event_id(ids.now().decode()).positions == {TRADES: {0: 4}}
    assign(hub, {0: 4, 1: -1}, partial=False)
    assert parse_event_id(ids.now().decode()).positions == {TRADES: {0: 4, 1: -1}}


def test_member_of_a_group_passes_on_the_positions_of_others() -> None:
    """A client that is sent to another member later resumes there; what is served here is newer."""
    hub = make_hub()
    assign(hub, {0: 4}, partial=True)
    start = EventId({TRADES: {0: 2, 1: 7, 3: 9}}, {TRADES: "t1"})
    _, ids = EventFormats(hub).live([TRADES], Frames.SINGLE, start)
    assert parse_event_id(ids.now().decode()).positions == {TRADES: {0: 4, 1: 7, 3: 9}}
    assign(hub, {0: 5, 1: 8}, partial=True)
    assert parse_event_id(ids.now().decode()).positions == {TRADES: {0: 5, 1: 8, 3: 9}}
    assign(hub, {0: 5}, partial=True, ids={TRADES: "t2"})
    assert parse_event_id(ids.now().decode()) == EventId({TRADES: {0: 5}}, {TRADES: "t2"})


@pytest.mark.parametrize("ends", [[6], [1, 6], [2, 3, 6], [1, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("kind", ["live", "paced", "replay"])
def test_event_has_the_id_of_its_last_message(kind: str, ends: list[int]) -> None:
    """However the messages are divided into batches; the messages within them have none."""
    offsets = [(0, 5), (1, 2), (0, 6), (1, 3), (1, 4), (0, 7)]
    messages = [
        ChannelMessage(
            Record(TRADES, partition, offset, 0, b"BTC", b"1"), "BTC", "trade", "BTC.trade", b"1"
        )
        for partition, offset in offsets
    ]
    hub = make_hub()
    assign(hub, {0: 7, 1: 4}, partial=False)
    nowhere, start = EventId({}), EventId({TRADES: {0: 4, 1: 1}})
    sources: dict[str, EventIds] = {
        "live": LiveEventIds(hub, [TRADES], nowhere),
        "paced": PacedEventIds(hub, [TRADES], nowhere, Subscriber(lambda _data: None)),
        "replay": ReplayEventIds(start, snapshot=False),
    }
    found = sources[kind].of(messages, ends, replay=True)
    expected = [dict(start.positions[TRADES]) | dict(offsets[:end]) for end in ends]
    assert [parse_event_id(one.decode()).positions[TRADES] for one in found] == expected
