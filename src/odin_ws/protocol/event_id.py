"""Event ids: the positions and topic ids that a resume needs, as one short line of text.

    1,odin.trades:0f3c…:A2bKB,odin.social::.C

The version (with an `s` while a snapshot has not come whole), then for each topic its name, its id
if the brokers have ids, and the offsets of its partitions in order. docs/sse.md describes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from typing import Final

import attrs

__all__ = ["EventId", "EventIdWriter", "InvalidEventId", "parse_event_id"]

_VERSION: Final = "1"
_IN_SNAPSHOT: Final = "1s"

# Offsets are written as offset + 1 in digits of 5 bits. The last digit has its own letters, so that
# no separator is needed: 10^9 takes 6 characters, and a partition without a record one.
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
_LAST_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZwxyz_-"
_BITS: Final = 5
_MASK: Final = (1 << _BITS) - 1
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_LAST_VALUES: Final = {digit: value for value, digit in enumerate(_LAST_DIGITS)}

# A partition without a known offset, between others.
_ABSENT: Final = "."

_OFFSET: Final = re.compile(r"\.|[0-9a-v]{0,12}[A-Zw-z_-]")
_OFFSETS: Final = re.compile(r"(?:\.|[0-9a-v]{0,12}[A-Zw-z_-])*")

# Kafka's longest topic name, and the longest id that a client may send (position_parser.py).
_TOPIC: Final = re.compile(r"([A-Za-z0-9._-]{1,249}):([A-Za-z0-9_-]{0,64}):(.*)", re.DOTALL)

# Kafka numbers offsets with 63 bits.
_MAX_OFFSET: Final = (1 << 63) - 1

# Length limit of invalid ids in error texts.
_SHOWN: Final = 40


class InvalidEventId(ValueError):
    """The text is not an event id of this server; the message says why."""


@attrs.frozen
class EventId:
    """The content of an event id."""

    positions: Mapping[str, Mapping[int, int]]
    """By topic and partition the last sent offset."""
    ids: Mapping[str, str] = attrs.field(factory=dict)
    """By topic its id."""
    in_snapshot: bool = False
    """True if the snapshot of the subscription was not complete."""

    def __str__(self) -> str:
        return EventIdWriter(self).text.decode("ascii")


class EventIdWriter:
    """An event id with changing positions: only changes are encoded."""

    __slots__ = ("_parts", "_places")

    def __init__(self, event_id: EventId) -> None:
        parts = [(_IN_SNAPSHOT if event_id.in_snapshot else _VERSION).encode("ascii")]
        # By topic and partition the index of its offset in `parts`.
        places: dict[tuple[str, int], int] = {}
        for topic, partitions in event_id.positions.items():
            parts.append(f",{topic}:{event_id.ids.get(topic, '')}:".encode("ascii"))
            for partition in range(max(partitions, default=-1) + 1):
                places[topic, partition] = len(parts)
                offset = partitions.get(partition)
                parts.append(_ABSENT.encode("ascii") if offset is None else _written(offset))
        self._parts = parts
        self._places = places

    def copy(self) -> EventIdWriter:
        """Return a copy that moves independently."""
        other = copy(self)
        other._parts = self._parts.copy()  # noqa: SLF001 -- of the same class
        return other

    @property
    def text(self) -> bytes:
        """The current id."""
        return b"".join(self._parts)

    def move(self, topic: str, partition: int, offset: int) -> None:
        """Change a position. Raises KeyError for a partition that is not in the id."""
        self._parts[self._places[topic, partition]] = _written(offset)


def parse_event_id(text: str) -> EventId:
    """Parse an event id from a client. Raises InvalidEventId."""
    version, *topics = text.split(",")
    if version not in {_VERSION, _IN_SNAPSHOT}:
        raise InvalidEventId(f"{text[:_SHOWN]!r} is not an event id of this server")
    positions: dict[str, dict[int, int]] = {}
    ids: dict[str, str] = {}
    for part in topics:
        found = _TOPIC.fullmatch(part)
        if found is None or not _OFFSETS.fullmatch(found[3]):
            raise InvalidEventId(f"{part[:_SHOWN]!r} is not a topic of an event id")
        topic = found[1]
        if topic in positions:
            raise InvalidEventId(f"an event id with {topic} twice")
        if found[2]:
            ids[topic] = found[2]
        positions[topic] = {
            partition: _read(offset)
            for partition, offset in enumerate(_OFFSET.findall(found[3]))
            if offset != _ABSENT
        }
    return EventId(positions, ids, in_snapshot=version == _IN_SNAPSHOT)


def _written(offset: int) -> bytes:
    value = offset + 1
    text = _LAST_DIGITS[value & _MASK]
    value >>= _BITS
    while value:
        text = _DIGITS[value & _MASK] + text
        value >>= _BITS
    return text.encode("ascii")


def _read(text: str) -> int:
    value = 0
    for digit in text[:-1]:
        value = value << _BITS | _VALUES[digit]
    offset = (value << _BITS | _LAST_VALUES[text[-1]]) - 1
    if offset > _MAX_OFFSET:
        raise InvalidEventId("an event id with an offset beyond 63 bits")
    return offset
