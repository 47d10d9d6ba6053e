"""Assertions about messages: what passes, and the error messages."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from odin_ws.catalogue import load_catalogue
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.assertions import (
    assert_delivered,
    assert_offsets,
    assert_positions,
    assert_sequence,
    position_of,
)

TRADES = TopicPartition("odin.trades", 2)


def message(offset: int, seq: int = 1, partition: int = 2) -> dict[str, object]:
    """Return a message as a client receives it."""
    return {"seq": seq, "channel": "BTC.trade", "pos": f"{partition}-{offset}"}


def record(offset: int, partition: int = 2) -> Record:
    """Return a record of the same partition."""
    return Record("odin.trades", partition, offset, 0, b"BTC", b"{}")


def failure(received: Sequence[int], expected: Sequence[int]) -> str:
    """Return the error message about one partition."""
    with pytest.raises(AssertionError) as raised:
        assert_offsets({TRADES: received}, {TRADES: expected})
    return str(raised.value)


def test_place_of_uses_topic_of_the_catalogue() -> None:
    """The catalogue has another topic for the category."""
    catalogue = load_catalogue('[[topics]]\nname = "t"\ncategory = "trade"\n')
    assert position_of(message(7), catalogue) == (TopicPartition("t", 2), 7)


def test_consecutive_sequence_numbers_pass() -> None:
    """From the first number on; no message passes too."""
    assert_sequence([])
    assert_sequence([message(9, 1), message(4, 2)])
    assert_sequence([message(9, 5), message(4, 6)], first=5)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([2], "message 1 of 1 has seq 2 as the first: expected 1"),
        ([1, 2, 4, 5], "message 3 of 4 has seq 4 after seq 2: expected 3"),
        ([1, 1], "message 2 of 2 has seq 1 after seq 1: expected 2"),
    ],
)
def test_sequence_error_names_the_first_wrong_message(numbers: list[int], text: str) -> None:
    """The error has its index, its number and the one before."""
    with pytest.raises(AssertionError) as raised:
        assert_sequence([message(0, number) for number in numbers])
    assert str(raised.value) == text


def test_delivered_passes_in_any_order_of_partitions() -> None:
    """The order counts only within a partition."""
    records = [record(1), record(2), record(1, 3)]
    assert_delivered([message(1, partition=3), message(1), message(2)], records)
    with pytest.raises(AssertionError, match="partition 2: 1 came after 2"):
        assert_delivered([message(2), message(1), message(1, partition=3)], records)


@pytest.mark.parametrize(
    ("received", "expected", "text"),
    [
        ([1, 5], [1, 2, 3, 5], "missing: 2-3"),
        ([1, 2], [1], "not expected: 2"),
        ([1, 1, 2], [1, 2], "received twice: 1"),
        ([], [3, 4, 5, 7], "missing: 3-5, 7"),
        ([1, 4, 4], [1, 2], "missing: 2; not expected: 4; received twice: 4"),
    ],
)
def test_offsets_error_lists_differences(
    received: list[int], expected: list[int], text: str
) -> None:
    """Missing, unexpected and repeated offsets, as spans."""
    first, line = failure(received, expected).splitlines()
    assert first == f"received {len(received)} messages, expected {len(expected)} records"
    assert line == f"  odin.trades partition 2: {text}"


def test_positions_are_compared_with_last_record_of_each_partition() -> None:
    """Partitions may be strings or numbers; further partitions are allowed."""
    records = [record(4), record(3), record(1, 3)]
    assert_positions({"odin.trades": {"2": 4, 3: 1, "9": 7}}, records)
    with pytest.raises(AssertionError) as raised:
        assert_positions({"odin.trades": {"2": 3}}, records)
    assert str(raised.value).splitlines() == [
        "positions differ",
        "  odin.trades partition 2 is 3, expected 4",
        "  odin.trades partition 3 is missing, expected 1",
    ]
