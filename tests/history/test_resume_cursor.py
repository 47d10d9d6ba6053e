"""What is wanted shrinks as it is given, and nothing else does."""

from __future__ import annotations

import pytest

from odin_ws.history import ResumeCursor
from odin_ws.records import TopicPartition
from tests.factories import message

TRADES = [TopicPartition("odin.trades", number) for number in range(3)]
SOCIAL = TopicPartition("odin.social", 0)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("BTC.trade", True),
        ("*.trade", True),
        ("BTC.*", True),
        ("*.*", True),
        ("ETH.trade", False),
        ("BTC.social", False),
        ("*.social", False),
        ("ETH.*", False),
    ],
)
def test_a_message_is_wanted_by_its_patterns_and_behind_their_positions(
    pattern: str, *, wanted: bool
) -> None:
    """Not at the position, nor in a partition without one."""
    resume_cursor = ResumeCursor({pattern: {TRADES[0]: 5}})
    assert resume_cursor.includes(message("BTC", offset=6)) is wanted
    assert not resume_cursor.includes(message("BTC", offset=5))
    assert not resume_cursor.includes(message("BTC", partition=1, offset=6))


def test_patterns_may_begin_in_different_places() -> None:
    """Each message is wanted behind the position of a pattern of its own."""
    resume_cursor = ResumeCursor(
        {"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9, TRADES[1]: 2}}
    )
    assert resume_cursor.includes(message("BTC", offset=6))
    assert not resume_cursor.includes(message("ETH", offset=9))
    assert resume_cursor.after("BTC.trade", TRADES[0]) == 5
    assert resume_cursor.after("ETH.trade", TRADES[0]) == 9
    assert resume_cursor.after("BTC.trade", TRADES[1]) is None
    assert resume_cursor.positions() == {TRADES[0]: 5, TRADES[1]: 2}
    assert resume_cursor.highest() == {TRADES[0]: 9, TRADES[1]: 2}


def test_what_was_given_is_wanted_no_more() -> None:
    """Of a whole partition, whichever pattern it was for; and it never goes back."""
    resume_cursor = ResumeCursor(
        {"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9, TRADES[1]: 2}}
    )
    resume_cursor.advance(TRADES[0], 7)
    assert resume_cursor.positions() == {TRADES[0]: 7, TRADES[1]: 2}
    assert resume_cursor.highest() == {TRADES[0]: 9, TRADES[1]: 2}
    resume_cursor.advance(TRADES[0], 12)
    resume_cursor.advance(TRADES[0], 8)
    assert (
        resume_cursor.after("BTC.trade", TRADES[0])
        == resume_cursor.after("ETH.trade", TRADES[0])
        == 12
    )
    assert not resume_cursor.includes(message("BTC", offset=12))
    assert resume_cursor.includes(message("BTC", offset=13))
    resume_cursor.advance(TRADES[2], 4)
    assert TRADES[2] not in resume_cursor.positions()


def test_a_beginning_is_where_there_was_no_position() -> None:
    """Of all patterns, also of those that share their positions."""
    shared = {TRADES[0]: 5}
    resume_cursor = ResumeCursor(
        {"*.trade": shared, "BTC.trade": shared, "BTC.social": {SOCIAL: 1}}
    )
    resume_cursor.begin({TRADES[0]: 9, TRADES[1]: 3, SOCIAL: 4})
    assert resume_cursor.positions() == {TRADES[0]: 5, TRADES[1]: 3, SOCIAL: 1}
    assert (
        resume_cursor.after("*.trade", TRADES[1])
        == resume_cursor.after("BTC.trade", TRADES[1])
        == 3
    )


def test_partitions_can_be_forgotten() -> None:
    """Of all patterns; the others stay where they are."""
    shared = {TRADES[0]: 5, TRADES[1]: 3}
    resume_cursor = ResumeCursor(
        {"SOL.trade": shared, "ETH.trade": shared, "BTC.trade": {TRADES[0]: 9}}
    )
    resume_cursor.advance(TRADES[0], 7)
    assert resume_cursor.positions() == {TRADES[0]: 7, TRADES[1]: 3}
    resume_cursor.forget({TRADES[0], TRADES[2]})
    assert resume_cursor.positions() == {TRADES[1]: 3}
    assert resume_cursor.after("BTC.trade", TRADES[0]) is None
    # Nor is it remembered how far it was.
    resume_cursor.begin({TRADES[0]: 1})
    assert resume_cursor.positions() == {TRADES[0]: 1, TRADES[1]: 3}


def test_positions_are_those_of_now() -> None:
    """Whatever was asked before, and whatever has changed since."""
    resume_cursor = ResumeCursor({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9}})
    seen = []

    def look() -> None:
        seen.append((dict(resume_cursor.positions()), dict(resume_cursor.highest())))

    look()
    resume_cursor.begin({TRADES[1]: 3})
    look()
    resume_cursor.advance(TRADES[0], 7)
    look()
    resume_cursor.drop(["ETH.trade"])
    look()
    resume_cursor.place(TRADES[0], 2)
    look()
    assert seen == [
        ({TRADES[0]: 5}, {TRADES[0]: 9}),
        ({TRADES[0]: 5, TRADES[1]: 3}, {TRADES[0]: 9, TRADES[1]: 3}),
        ({TRADES[0]: 7, TRADES[1]: 3}, {TRADES[0]: 9, TRADES[1]: 3}),
        ({TRADES[0]: 7, TRADES[1]: 3}, {TRADES[0]: 7, TRADES[1]: 3}),
        ({TRADES[0]: 2, TRADES[1]: 3}, {TRADES[0]: 2, TRADES[1]: 3}),
    ]


@pytest.mark.parametrize("offset", [2, 20, -1, None])
def test_a_place_is_taken_wherever_it_is(offset: int | None) -> None:
    """Behind or before what was given already; with None nothing of the partition is wanted."""
    resume_cursor = ResumeCursor(
        {"BTC.trade": {TRADES[0]: 5, TRADES[1]: 7}, "ETH.trade": {TRADES[1]: 1}}
    )
    resume_cursor.advance(TRADES[0], 9)
    resume_cursor.place(TRADES[0], offset)
    assert resume_cursor.after("BTC.trade", TRADES[0]) == offset
    assert resume_cursor.after("ETH.trade", TRADES[0]) is None
    assert resume_cursor.after("BTC.trade", TRADES[1]) == 7


def test_a_pattern_that_is_dropped_is_wanted_no_more() -> None:
    """The others are; whether there was something to drop is told."""
    resume_cursor = ResumeCursor({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9}})
    assert resume_cursor.drop(["BTC.trade", "DOGE.trade"])
    assert not resume_cursor.drop(["BTC.trade", "DOGE.trade"])
    assert list(resume_cursor.patterns) == ["ETH.trade"]
    assert not resume_cursor.includes(message("BTC", offset=6))
    assert resume_cursor.includes(message("ETH", offset=10))
    assert resume_cursor.positions() == {TRADES[0]: 9}
    assert resume_cursor.drop(["ETH.trade"])
    assert resume_cursor.positions() == resume_cursor.highest() == {}


@pytest.mark.parametrize("other", ["*.*", "BTC.*", "*.trade"])
def test_overlapping_patterns_with_positions_of_their_own_are_a_bug(other: str) -> None:
    """A message of both would be wanted behind one position and passed over behind the other."""
    shared = {TRADES[0]: 5}
    assert ResumeCursor({"BTC.trade": shared, other: shared}).includes(message("BTC", offset=6))
    with pytest.raises(AssertionError):
        ResumeCursor({"BTC.trade": dict(shared), other: dict(shared)})
