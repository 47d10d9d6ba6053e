"""What is wanted shrinks as it is given, and nothing else does."""

from __future__ import annotations

import pytest

from odin_ws.history import Want
from odin_ws.records import TopicPartition
from tests.building import message

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
    want = Want({pattern: {TRADES[0]: 5}})
    assert want.includes(message("BTC", offset=6)) is wanted
    assert not want.includes(message("BTC", offset=5))
    assert not want.includes(message("BTC", partition=1, offset=6))


def test_patterns_may_begin_in_different_places() -> None:
    """Each message is wanted behind the position of a pattern of its own."""
    want = Want({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9, TRADES[1]: 2}})
    assert want.includes(message("BTC", offset=6))
    assert not want.includes(message("ETH", offset=9))
    assert want.after("BTC.trade", TRADES[0]) == 5
    assert want.after("ETH.trade", TRADES[0]) == 9
    assert want.after("BTC.trade", TRADES[1]) is None
    assert want.positions() == {TRADES[0]: 5, TRADES[1]: 2}
    assert want.highest() == {TRADES[0]: 9, TRADES[1]: 2}


def test_what_was_given_is_wanted_no_more() -> None:
    """Of a whole partition, whichever pattern it was for; and it never goes back."""
    want = Want({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9, TRADES[1]: 2}})
    want.advance(TRADES[0], 7)
    assert want.positions() == {TRADES[0]: 7, TRADES[1]: 2}
    assert want.highest() == {TRADES[0]: 9, TRADES[1]: 2}
    want.advance(TRADES[0], 12)
    want.advance(TRADES[0], 8)
    assert want.after("BTC.trade", TRADES[0]) == want.after("ETH.trade", TRADES[0]) == 12
    assert not want.includes(message("BTC", offset=12))
    assert want.includes(message("BTC", offset=13))
    want.advance(TRADES[2], 4)
    assert TRADES[2] not in want.positions()


def test_a_beginning_is_where_there_was_no_position() -> None:
    """Of all patterns, also of those that share their positions."""
    shared = {TRADES[0]: 5}
    want = Want({"*.trade": shared, "BTC.trade": shared, "BTC.social": {SOCIAL: 1}})
    want.begin({TRADES[0]: 9, TRADES[1]: 3, SOCIAL: 4})
    assert want.positions() == {TRADES[0]: 5, TRADES[1]: 3, SOCIAL: 1}
    assert want.after("*.trade", TRADES[1]) == want.after("BTC.trade", TRADES[1]) == 3


def test_partitions_can_be_forgotten() -> None:
    """Of all patterns; the others stay where they are."""
    shared = {TRADES[0]: 5, TRADES[1]: 3}
    want = Want({"SOL.trade": shared, "ETH.trade": shared, "BTC.trade": {TRADES[0]: 9}})
    want.advance(TRADES[0], 7)
    assert want.positions() == {TRADES[0]: 7, TRADES[1]: 3}
    want.forget({TRADES[0], TRADES[2]})
    assert want.positions() == {TRADES[1]: 3}
    assert want.after("BTC.trade", TRADES[0]) is None
    # Nor is it remembered how far it was.
    want.begin({TRADES[0]: 1})
    assert want.positions() == {TRADES[0]: 1, TRADES[1]: 3}


def test_positions_are_those_of_now() -> None:
    """Whatever was asked before, and whatever has changed since."""
    want = Want({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9}})
    seen = []

    def look() -> None:
        seen.append((dict(want.positions()), dict(want.highest())))

    look()
    want.begin({TRADES[1]: 3})
    look()
    want.advance(TRADES[0], 7)
    look()
    want.drop(["ETH.trade"])
    look()
    want.place(TRADES[0], 2)
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
    want = Want({"BTC.trade": {TRADES[0]: 5, TRADES[1]: 7}, "ETH.trade": {TRADES[1]: 1}})
    want.advance(TRADES[0], 9)
    want.place(TRADES[0], offset)
    assert want.after("BTC.trade", TRADES[0]) == offset
    assert want.after("ETH.trade", TRADES[0]) is None
    assert want.after("BTC.trade", TRADES[1]) == 7


def test_a_pattern_that_is_dropped_is_wanted_no_more() -> None:
    """The others are; whether there was something to drop is told."""
    want = Want({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9}})
    assert want.drop(["BTC.trade", "DOGE.trade"])
    assert not want.drop(["BTC.trade", "DOGE.trade"])
    assert list(want.patterns) == ["ETH.trade"]
    assert not want.includes(message("BTC", offset=6))
    assert want.includes(message("ETH", offset=10))
    assert want.positions() == {TRADES[0]: 9}
    assert want.drop(["ETH.trade"])
    assert want.positions() == want.highest() == {}


@pytest.mark.parametrize("other", ["*.*", "BTC.*", "*.trade"])
def test_overlapping_patterns_with_positions_of_their_own_are_a_bug(other: str) -> None:
    """A message of both would be wanted behind one position and passed over behind the other."""
    shared = {TRADES[0]: 5}
    assert Want({"BTC.trade": shared, other: shared}).includes(message("BTC", offset=6))
    with pytest.raises(AssertionError):
        Want({"BTC.trade": dict(shared), other: dict(shared)})
