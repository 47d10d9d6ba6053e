"""The notes of one client, and the files by which they leave its process."""

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

# Codes of a close that no close frame told: the connection broke, or the client gave it up.
LOST: Final = 1006
HEARTBEAT: Final = 0

_NUMBERS: Final = {topic: number for number, topic in enumerate(TOPICS.values())}


@attrs.frozen
class Event:
    """An event of a client, other than a message.

    `kind`: subscribed (positions), resumed (recovered, replayed, lost, reason), closed (code,
    reason), rejected (reason), put off (message), feed (status) or error (message).
    """

    when: float
    kind: str
    detail: Mapping[str, Any]


class Journal:
    """One client's notes: positions in the order of arrival, the times, and events."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.positions: array[int] = array("q")
        self.times: array[float] = array("d")
        self.replays: array[float] = array("d")
        self.events: list[Event] = []
        # When the last message was published, epoch seconds; not kept in the file.
        self.published = 0.0
        # Counts of the library: messages that it has dropped or missed by itself.
        self.told: dict[str, int] = {}

    def message(
        self, topic: str, partition: int, offset: int, timestamp: int, *, replay: bool
    ) -> None:
        """Note a message that has come now; `timestamp`: when it was published, epoch ms."""
        now = time.monotonic()
        self.published = timestamp / 1000
        self.positions.append(pack(_NUMBERS[topic], partition, offset))
        self.times.append(now)
        if replay:
            self.replays.append(now)

    def event(self, kind: str, **detail: Any) -> None:
        """Note something that has happened now."""
        self.events.append(Event(time.monotonic(), kind, detail))

    def of(self, kind: str) -> Iterator[Event]:
        """The events of one kind."""
        return (event for event in self.events if event.kind == kind)

    @property
    def start(self) -> dict[tuple[str, int], int] | None:
        """The offsets after which the first subscription is live; None if there never was one."""
        for event in self.of("subscribed"):
            return {
                (topic, int(partition)): offset
                for topic, offsets in event.detail["positions"].items()
                for partition, offset in offsets.items()
            }
        return None

    def save(self, file: BinaryIO) -> None:
        """Append to a file."""
        head = {
            "name": self.name,
            "messages": len(self.positions),
            "replays": len(self.replays),
            "events": [attrs.astuple(event) for event in self.events],
            "told": self.told,
        }
        file.write(json.dumps(head).encode() + b"\n")
        file.writelines(column.tobytes() for column in (self.positions, self.times, self.replays))

    @classmethod
    def load(cls, file: BinaryIO) -> Journal | None:
        """Read the next one from a file; None at its end."""
        line = file.readline()
        if not line:
            return None
        head = json.loads(line)
        journal = cls(head["name"])
        journal.positions.fromfile(file, head["messages"])
        journal.times.fromfile(file, head["messages"])
        journal.replays.fromfile(file, head["replays"])
        journal.events = [Event(*fields) for fields in head["events"]]
        journal.told = head["told"]
        return journal


def save_journals(path: Path, journals: Iterable[Journal]) -> None:
    """Write journals; the file appears when it is complete."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for journal in journals:
            journal.save(file)
    partial.rename(path)


def load_journals(path: Path) -> Iterator[Journal]:
    """Read what `save_journals` wrote."""
    with path.open("rb") as file:
        while (journal := Journal.load(file)) is not None:
            yield journal
