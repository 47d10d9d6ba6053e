"""Whether what the broker has is being read, judged from one probe of it to the next."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from odin_ws.records import TopicPartition

__all__ = ["Progress"]


class Progress:
    """Where we were at the last probe, and of which partitions the broker had more then."""

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._behind: frozenset[TopicPartition] = frozenset()

    def note(
        self, positions: Mapping[TopicPartition, int], behind: Collection[TopicPartition]
    ) -> None:
        """Remember a probe; one that was not answered has found nothing `behind`."""
        self._positions = dict(positions)
        self._behind = frozenset(behind)

    def moved(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether anything was read since the last probe; False where there was none."""
        return bool(self._positions) and self._positions != positions

    def stuck(
        self,
        positions: Mapping[TopicPartition, int],
        behind: Collection[TopicPartition],
        *,
        stalled: bool,
    ) -> list[TopicPartition]:
        """Those of `behind` that nothing is read of.

        What came since the last probe may still be on its way to us: that is no reason to call a
        live feed stalled, nor a `stalled` one live.
        """
        waiting = [key for key in behind if self._positions.get(key) == positions[key]]
        return [key for key in waiting if stalled or key in self._behind]
