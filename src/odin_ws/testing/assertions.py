"""Assertions about received messages: sequences, records, positions; with readable errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.records import Record, TopicPartition

__all__ = [
    "assert_delivered",
    "assert_offsets",
    "assert_positions",
    "assert_sequence",
    "offsets_of",
    "position_of",
]

Messages = Iterable[Mapping[str, Any]]
Offsets = Mapping[TopicPartition, Sequence[int]]


def position_of(
    message: Mapping[str, Any], catalogue: Catalogue | None = None
) -> tuple[TopicPartition, int]:
    """Return the partition and the offset of a message's record."""
    partition, _, offset = message["pos"].partition("-")
    category = message["channel"].rpartition(".")[2]
    topic = (catalogue or default_catalogue()).categories[category]
    return TopicPartition(topic.name, int(partition)), int(offset)


def offsets_of(
    messages: Messages, catalogue: Catalogue | None = None
) -> dict[TopicPartition, list[int]]:
    """Return the offsets of messages by partition, in the order of arrival."""
    found: dict[TopicPartition, list[int]] = defaultdict(list)
    for message in messages:
        key, offset = position_of(message, catalogue)
        found[key].append(offset)
    return dict(found)


def assert_sequence(messages: Messages, first: int = 1) -> None:
    """Assert that the `seq` of one connection's messages are consecutive from `first` on."""
    numbers = [message["seq"] for message in messages]
    for expected, number in enumerate(numbers, first):
        if number != expected:
            index = expected - first
            before = f"after seq {numbers[index - 1]}" if index else "as the first"
            raise AssertionError(
                f"message {index + 1} of {len(numbers)} has seq {number} {before}: expected "
                f"{expected}"
            )


def assert_delivered(
    messages: Messages, records: Iterable[Record], catalogue: Catalogue | None = None
) -> None:
    """Assert that `messages` are exactly these records: each once, in order per partition."""
    expected: dict[TopicPartition, list[int]] = defaultdict(list)
    for record in records:
        expected[TopicPartition(record.topic, record.partition)].append(record.offset)
    assert_offsets(offsets_of(messages, catalogue), expected)


def assert_offsets(received: Offsets, expected: Offsets) -> None:
    """Assert that the received offsets are the expected ones, by partition and in order.

    The error lists for each partition the offsets that are missing, unexpected, received twice or
    out of order.
    """
    problems = []
    for key in sorted(received.keys() | expected.keys()):
        found = _differences(received.get(key, ()), expected.get(key, ()))
        if found:
            problems.append(f"  {key.topic} partition {key.partition}: {'; '.join(found)}")
    if problems:
        count = sum(map(len, received.values()))
        total = sum(map(len, expected.values()))
        raise AssertionError(
            "\n".join([f"received {count} messages, expected {total} records", *problems])
        )


def assert_positions(positions: Mapping[str, Mapping[Any, int]], records: Iterable[Record]) -> None:
    """Assert that `positions`, in the form of an ack, follow the last of `records`.

    Ignores partitions without one of these records.
    """
    expected: dict[TopicPartition, int] = {}
    for record in records:
        key = TopicPartition(record.topic, record.partition)
        expected[key] = max(record.offset, expected.get(key, -1))
    problems = []
    for key, offset in sorted(expected.items()):
        partitions = {int(number): at for number, at in positions.get(key.topic, {}).items()}
        at = partitions.get(key.partition)
        if at != offset:
            actual = "is missing" if at is None else f"is {at}"
            problems.append(f"  {key.topic} partition {key.partition} {actual}, expected {offset}")
    if problems:
        raise AssertionError("\n".join(["positions differ", *problems]))


def _differences(received: Sequence[int], expected: Sequence[int]) -> list[str]:
    counts = Counter(received)
    found = [
        ("missing", sorted(set(expected) - counts.keys())),
        ("not expected", sorted(counts.keys() - set(expected))),
        ("received twice", sorted(offset for offset, count in counts.items() if count > 1)),
    ]
    texts = [f"{what}: {_spans(offsets)}" for what, offsets in found if offsets]
    texts += [
        f"{after} came after {before}" for before, after in pairwise(received) if after < before
    ][:1]
    return texts


def _spans(offsets: Sequence[int]) -> str:
    """Return ascending numbers as text: 3, 5-9, 12."""
    spans: list[list[int]] = []
    for offset in offsets:
        if spans and spans[-1][1] == offset - 1:
            spans[-1][1] = offset
        else:
            spans.append([offset, offset])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
