"""Positions move with received messages, and never past missing ones."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from odin_ws_client import Disconnected, FeedChange, Message, Resumed, Subscribed
from odin_ws_client.core.items import Checkpoint
from odin_ws_client.core.offset_tracker import OffsetTracker

TOPICS = st.sampled_from(["odin.trades", "odin.social"])
PARTITIONS = st.integers(0, 3)
POSITIONS = st.dictionaries(TOPICS, st.dictionaries(PARTITIONS, st.integers(-1, 50), min_size=1))


def message(topic: str, partition: int, offset: int) -> Message:
    """One of these."""
    return Message("BTC.trade", topic, partition, offset, 0, 1, False, 0, {}, b"")  # noqa: FBT003


@given(POSITIONS, st.lists(st.tuples(TOPICS, PARTITIONS, st.integers(0, 60))))
def test_position_is_the_largest_offset(
    start: dict[str, dict[int, int]], received: list[tuple[str, int, int]]
) -> None:
    """Of the first position and the messages; a message at or before it is a duplicate."""
    offset_tracker = OffsetTracker(start)
    expected = {topic: dict(partitions) for topic, partitions in start.items()}
    for topic, partition, offset in received:
        largest = expected.get(topic, {}).get(partition, -1)
        one = message(topic, partition, offset)
        assert offset_tracker.advance(one) == (offset > largest)
        expected.setdefault(topic, {})[partition] = max(offset, largest)
        assert offset_tracker.offset(topic, partition) == max(offset, largest)
    assert offset_tracker.positions() == expected
    assert bool(offset_tracker) == bool(expected)


def test_message_ahead_of_a_held_one_moves_no_position() -> None:
    """A resume begins before the held record; the messages that it repeats are duplicates."""
    tracker = OffsetTracker({"odin.trades": {0: 4}})

    def advance(offset: int, *, ahead: bool = False) -> bool:
        one = message("odin.trades", 0, offset)
        one.ahead = ahead
        return tracker.advance(one)

    assert advance(6, ahead=True)
    assert advance(8, ahead=True)
    assert tracker.positions() == {"odin.trades": {0: 4}}
    assert [advance(offset) for offset in (5, 6, 7, 8)] == [True, False, True, False]
    assert tracker.positions() == {"odin.trades": {0: 8}}
    assert advance(10, ahead=True)
    tracker.follow(Checkpoint({"odin.trades": {0: 10}}, {}))
    assert not advance(10)
    # Where the partition goes back, the same offset is another record.
    assert advance(20, ahead=True)
    tracker.follow(Checkpoint({"odin.trades": {0: 3}}, {}))
    assert advance(20)


@given(POSITIONS)
def test_positions_survive_json(positions: dict[str, dict[int, int]]) -> None:
    """Partitions are read from strings."""
    kept = json.loads(json.dumps(OffsetTracker(positions).positions()))
    assert OffsetTracker(kept).positions() == positions


@given(POSITIONS, POSITIONS)
def test_ack_sets_its_positions(
    before: dict[str, dict[int, int]], response: dict[str, dict[int, int]]
) -> None:
    """Other partitions keep theirs."""
    for item in (
        Subscribed((), (), response),
        Resumed(False, None, {}, "", None, (), (), response),  # noqa: FBT003
    ):
        offset_tracker = OffsetTracker(before)
        offset_tracker.follow(item)
        for topic in before.keys() | response.keys():
            both = before.get(topic, {}) | response.get(topic, {})
            assert offset_tracker.positions()[topic] == both


def test_other_items_move_no_position() -> None:
    """A feed status and a lost connection are no progress."""
    offset_tracker = OffsetTracker({"odin.trades": {0: 1}})
    offset_tracker.follow(FeedChange("stalled", 1))
    offset_tracker.follow(Disconnected(1006, "", 1))
    assert offset_tracker.positions() == {"odin.trades": {0: 1}}


def test_returned_positions_are_a_copy() -> None:
    """Later messages do not change them."""
    offset_tracker = OffsetTracker({"odin.trades": {0: 1}})
    kept = offset_tracker.positions()
    offset_tracker.follow(message("odin.trades", 0, 7))
    assert kept == {"odin.trades": {0: 1}}
