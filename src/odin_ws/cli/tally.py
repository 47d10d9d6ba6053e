"""Counts received messages by category and event type."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.cli.message_text import Line, describe
from odin_ws_client import Message

__all__ = ["Tally", "Window"]

_RECENT: Final = 10


@attrs.frozen
class Window:
    """Messages since the previous window: rates per second, median latency in milliseconds."""

    rate: float
    by_category: Mapping[str, float]
    latency_ms: float | None


class Tally:
    """Counts messages by category and event type.

    `began`: start time of the first window in seconds, on the clock of `take_window`.
    """

    def __init__(self, catalogue: Catalogue, began: float) -> None:
        self.total = 0
        self.by_category = Counter(dict.fromkeys(catalogue.categories, 0))
        self.event_types: Counter[str] = Counter()
        self.recent: deque[Line] = deque(maxlen=_RECENT)
        self._known = catalogue.event_types
        self._window_began = began
        self._window_counts = Counter(self.by_category)
        self._latencies: list[float] = []

    @property
    def seen_types(self) -> int:
        """The number of the catalogue's event types received so far."""
        return len(self._known.keys() & self.event_types.keys())

    @property
    def known_types(self) -> int:
        """The number of the catalogue's event types."""
        return len(self._known)

    def add(self, message: Message, now_us: int) -> None:
        """Count a message that was received at `now_us` (epoch microseconds)."""
        line = describe(message)
        self.total += 1
        self.by_category[line.category] += 1
        self.event_types[line.event] += 1
        self.recent.append(line)
        if (published_us := _published_us(message.data)) is not None:
            self._latencies.append((now_us - published_us) / 1000)

    def take_window(self, now: float) -> Window:
        """Return the rates since the last call and start a new window."""
        seconds = max(now - self._window_began, 1e-6)
        new = self.by_category - self._window_counts
        rates = {category: new[category] / seconds for category in self.by_category}
        window = Window(
            rate=new.total() / seconds,
            by_category=rates,
            latency_ms=median(self._latencies) if self._latencies else None,
        )
        self._window_began = now
        self._window_counts = Counter(self.by_category)
        self._latencies.clear()
        return window


def _published_us(value: Any) -> int | None:
    match value:
        case {"data": {"pub_us": int(published_us)}}:
            return published_us
        case _:
            return None
