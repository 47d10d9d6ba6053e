"""Cases of a suite: runs, and figures with limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from odin_ws.bench.results import Measurement
from odin_ws.bench.workload import Run

__all__ = ["Case", "Figure", "Measured"]


@attrs.frozen
class Measured:
    """A run's measurement, and the baseline's before and after it."""

    server: Measurement
    baselines: Sequence[Measurement]


@attrs.frozen
class Figure:
    """One figure of a case, and its limit.

    `value`: computed from the case's runs, None if there was nothing to measure. `form`: its
    format.
    `most`, `least`: its limits, None for none.
    """

    name: str
    value: Callable[[Sequence[Measured]], float | None]
    form: str
    most: float | None = None
    least: float | None = None

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.most is not None:
            return f"at most {self.form.format(self.most)}"
        return "" if self.least is None else f"at least {self.form.format(self.least)}"

    def reached(self, measured: Sequence[Measured]) -> bool | None:
        """Return whether the limit is kept; None if there is no limit or no value."""
        value = self.value(measured)
        if value is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )


@attrs.frozen
class Case:
    """Runs and their figures; with `baseline` each run is between two of the baseline."""

    name: str
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    baseline: bool = False

    def missed(self, measured: Sequence[Measured]) -> list[str]:
        """Return the names of the figures that are not within their limits."""
        return [one.name for one in self.figures if one.reached(measured) is False]
