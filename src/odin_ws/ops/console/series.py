"""Time series of the last quarter of an hour, in a bounded number of bytes."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["SERIES_SAMPLES", "Series"]

# A sample per second for 15 minutes: a series takes 7 KiB, and a process has some 50 series.
SERIES_SAMPLES: Final = 900

# The oldest samples are deleted together: each deletion moves a list of 900.
_TRIM: Final = 60


class Series:
    """The newest `samples` samples of several series that share their times.

    A time is a whole second of the wall clock, so the samples of several processes can be joined.
    """

    def __init__(self, samples: int = SERIES_SAMPLES) -> None:
        self._samples = samples
        self._times = array("q")
        self._columns: dict[str, array[float]] = {}
        # By series, the value for a missing one: 0 in a count, NaN in a gauge.
        self._missing: dict[str, float] = {}

    @property
    def last(self) -> int:
        """The time of the newest sample; 0 without one."""
        return self._times[-1] if self._times else 0

    def append(
        self, at: int, gauges: Mapping[str, float | None], counts: Mapping[str, float]
    ) -> None:
        """Add a sample, unless the clock was set back to the last sample's time or before.

        Args:
            at: epoch seconds.
            gauges: values by name; a missing name or None means unknown.
            counts: increases since the last sample by name; a missing name means 0.
        """
        if at <= self.last:
            return
        self._add_columns(gauges, math.nan)
        self._add_columns(counts, 0.0)
        self._times.append(at)
        for name, column in self._columns.items():
            value = gauges.get(name) if name in gauges else counts.get(name, self._missing[name])
            column.append(math.nan if value is None else value)
        if len(self._times) >= self._samples + _TRIM:
            self._trim()

    def _add_columns(self, names: Iterable[str], missing: float) -> None:
        """Add the new series, with `missing` as the value of all earlier samples."""
        for name in names:
            if name not in self._columns:
                self._columns[name] = array("d", [missing]) * len(self._times)
                self._missing[name] = missing

    def _trim(self) -> None:
        """Delete samples beyond the limit, and series without a recent value."""
        del self._times[: -self._samples]
        for name, column in list(self._columns.items()):
            del column[: -self._samples]
            if all(math.isnan(value) or value == self._missing[name] for value in column):
                del self._columns[name], self._missing[name]

    def extend(self, samples: Mapping[str, Any]) -> None:
        """Add the samples that `after` of another process has returned; None means unknown."""
        gauges, counts = samples["gauges"], samples["counts"]
        for index, at in enumerate(samples["t"]):
            self.append(at, _row(gauges, index), _row(counts, index))

    def after(self, at: int) -> dict[str, Any]:
        """Return the samples after a time: `t`, `gauges` and `counts` by name; NaN is unknown."""
        first = max(bisect_right(self._times, at), len(self._times) - self._samples)
        samples: dict[str, Any] = {"t": self._times[first:].tolist(), "gauges": {}, "counts": {}}
        for name, column in self._columns.items():
            kind = "gauges" if math.isnan(self._missing[name]) else "counts"
            samples[kind][name] = column[first:].tolist()
        return samples


def _row(columns: Mapping[str, Sequence[float]], index: int) -> dict[str, float]:
    return {name: column[index] for name, column in columns.items()}
