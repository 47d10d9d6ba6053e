"""A resume cursor includes the messages after its positions, and nothing else."""

from __future__ import annotations

import pytest

from odin_ws.history import ResumeCursor
from odin_ws.records import TopicPartition
from tests.bench.counting import instructions
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
def test_cursor_includes_message_that_matches_after_position(pattern: str, *, wanted: bool) -> None:
    """It does not include the message at the position, nor partitions without a position."""
    resume_cursor = ResumeCursor({pattern: {TRADES[0]: 5}})
    assert resume_cursor.includes(message("BTC", offset=6)) is wanted
    assert not resume_cursor.includes(message("BTC", offset=5))
    assert not resume_cursor.includes(message("BTC", partition=1, offset=6))


def test_patterns_have_their_own_positions() -> None:
    """A message is included if its offset is after the position of a pattern that matches it."""
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


def test_advance_moves_all_patterns_forward_only() -> None:
    """A lower offset, or a partition without a position, changes nothing."""
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


def test_begin_sets_only_missing_positions() -> None:
    """It does so for all patterns, also for those that share their positions."""
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


def test_forget_removes_partition_from_all_patterns() -> None:
    """The other partitions keep their positions."""
    shared = {TRADES[0]: 5, TRADES[1]: 3}
    resume_cursor = ResumeCursor(
        {"SOL.trade": shared, "ETH.trade": shared, "BTC.trade": {TRADES[0]: 9}}
    )
    resume_cursor.advance(TRADES[0], 7)
    assert resume_cursor.positions() == {TRADES[0]: 7, TRADES[1]: 3}
    resume_cursor.forget({TRADES[0], TRADES[2]})
    assert resume_cursor.positions() == {TRADES[1]: 3}
    assert resume_cursor.after("BTC.trade", TRADES[0]) is None
    # The offset to which it had advanced is forgotten too.
    resume_cursor.begin({TRADES[0]: 1})
    assert resume_cursor.positions() == {TRADES[0]: 1, TRADES[1]: 3}


def test_positions_follow_each_change() -> None:
    """`positions` and `highest` are cached: each change has to clear the cache."""
    resume_cursor = ResumeCursor({"BTC.trade": {TRADES[0]: 5}, "ETH.trade": {TRADES[0]: 9}})
    seen = []

    def note() -> None:
        seen.append((dict(resume_cursor.positions()), dict(resume_cursor.highest())))

    note()
    resume_cursor.begin({TRADES[1]: 3})
    note()
    resume_cursor.advance(TRADES[0], 7)
    note()
    resume_cursor.drop(["ETH.trade"])
    note()
    resume_cursor.place(TRADES[0], 2)
    note()
    assert seen == [
        ({TRADES[0]: 5}, {TRADES[0]: 9}),
        ({TRADES[0]: 5, TRADES[1]: 3}, {TRADES[0]: 9, TRADES[1]: 3}),
        ({TRADES[0]: 7, TRADES[1]: 3}, {TRADES[0]: 9, TRADES[1]: 3}),
        ({TRADES[0]: 7, TRADES[1]: 3}, {TRADES[0]: 7, TRADES[1]: 3}),
        ({TRADES[0]: 2, TRADES[1]: 3}, {TRADES[0]: 2, TRADES[1]: 3}),
    ]


@pytest.mark.parametrize("offset", [2, 20, -1, None])
def test_place_sets_position_backward_and_forward(offset: int | None) -> None:
    """With None the cursor includes nothing of the partition."""
    resume_cursor = ResumeCursor(
        {"BTC.trade": {TRADES[0]: 5, TRADES[1]: 7}, "ETH.trade": {TRADES[1]: 1}}
    )
    resume_cursor.advance(TRADES[0], 9)
    resume_cursor.place(TRADES[0], offset)
    assert resume_cursor.after("BTC.trade", TRADES[0]) == offset
    assert resume_cursor.after("ETH.trade", TRADES[0]) is None
    assert resume_cursor.after("BTC.trade", TRADES[1]) == 7


def test_dropped_pattern_is_not_included() -> None:
    """`drop` returns whether it removed a pattern."""
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
def test_overlapping_patterns_with_separate_positions_raise(other: str) -> None:
    """A message of both patterns would be included by one position and skipped by the other."""
    shared = {TRADES[0]: 5}
    assert ResumeCursor({"BTC.trade": shared, other: shared}).includes(message("BTC", offset=6))
    with pytest.raises(AssertionError):
        ResumeCursor({"BTC.trade": dict(shared), other: dict(shared)})


def test_work_grows_with_the_positions_and_not_with_patterns_times_partitions() -> None:
    """A reconnect of a thousand channels has as many mappings, each with one partition."""

    def count(channels: int) -> int:
        keys = [TopicPartition("odin.trades", number) for number in range(channels)]
        starts = {f"T{number}.trade": {key: 5} for number, key in enumerate(keys)}
        resume_cursor = ResumeCursor(starts)
        with instructions() as counted:
            for key in keys:
                resume_cursor.advance(key, 7)
            assert len(list(resume_cursor.starts())) == len(resume_cursor.positions()) == channels
            resume_cursor.forget(keys)
        assert not resume_cursor.positions()
        return counted.value

    assert count(400) < 5 * count(100)
