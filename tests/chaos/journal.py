"""The journal of one client, and the files that pass it to the parent process."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from tests.chaos.ledger import pack
from tests.chaos.plan import TOPICS

__all__ = ["HEARTBEAT", "LOST", "Event", "Journal", "load_journals", "save_journals"]

# Codes of disconnections without a close frame: a broken connection, and the client's timeout.
LOST: Final = 1006
HEARTBEAT: Final = 0

_NUMBERS: Final = {topic: number for number, topic in enumerate(TOPICS.values())}


@attrs.frozen
class Event:
    """An event of a client, other than a message."""

    when: float
    """The time in monotonic seconds."""
    kind: str
    """With its details: subscribed (positions), resumed (recovered, replayed, lost, reason), closed
    (code, reason), rejected (reason), put off (message), feed (status) or error (message)."""
    detail: Mapping[str, Any]


class Journal:
    """The record of one client: positions in the order of arrival, their times, and events."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.positions: array[int] = array("q")
        self.times: array[float] = array("d")
        self.replays: array[float] = array("d")
        self.events: list[Event] = []
        # Publishing time of the last message in epoch seconds; not saved.
        self.published = 0.0
        # Counts of the library: messages dropped as duplicates, and missed messages.
        self.reported: dict[str, int] = {}

    def message(
        self, topic: str, partition: int, offset: int, timestamp: int, *, replay: bool
    ) -> None:
        """Record a message received now; `timestamp`: its publishing time, epoch ms."""
        now = time.monotonic()
        self.published = timestamp / 1000
        self.positions.append(pack(_NUMBERS[topic], partition, offset))
        self.times.append(now)
        if replay:
            self.replays.append(now)

    def event(self, kind: str, **detail: Any) -> None:
        """Record an event that occurs now."""
        self.events.append(Event(time.monotonic(), kind, detail))

    def of(self, kind: str) -> Iterator[Event]:
        """Return the events of one kind."""
        return (event for event in self.events if event.kind == kind)

    @property
    def start(self) -> dict[tuple[str, int], int] | None:
        """The offsets after which the first subscription is live; None without a subscription."""
        for event in self.of("subscribed"):
            return {
                (topic, int(partition)): offset
                for topic, offsets in event.detail["positions"].items()
                for partition, offset in offsets.items()
            }
        return None

    def save(self, file: BinaryIO) -> None:
        """Append the journal to a file."""
        head = {
            "name": self.name,
            "messages": len(self.positions),
            "replays": len(self.replays),
            "events": [attrs.astuple(event) for event in self.events],
            "reported": self.reported,
        }
        file.write(json.dumps(head).encode() + b"\n")
        file.writelines(column.tobytes() for column in (self.positions, self.times, self.replays))

    @classmethod
    def load(cls, file: BinaryIO) -> Journal | None:
        """Read the next journal from a file; return None at its end."""
        line = file.readline()
        if not line:
            return None
        head = json.loads(line)
        journal = cls(head["name"])
        journal.positions.fromfile(file, head["messages"])
        journal.times.fromfile(file, head["messages"])
        journal.replays.fromfile(file, head["replays"])
        journal.events = [Event(*fields) for fields in head["events"]]
        journal.reported = head["reported"]
        return journal


def save_journals(path: Path, journals: Iterable[Journal]) -> None:
    """Write journals; the file appears when it is complete."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for journal in journals:
            journal.save(file)
    partial.rename(path)


def load_journals(path: Path) -> Iterator[Journal]:
    """Return the journals that `save_journals` wrote."""
    with path.open("rb") as file:
        while (journal := Journal.load(file)) is not None:
            yield journal
