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
    """One figure of a case, and its limit."""

    name: str
    value: Callable[[Sequence[Measured]], float | None]
    """Computes the figure from the case's runs; None if the runs have no value."""
    form: str
    """The format of the figure, for `str.format`."""
    most: float | None = None
    """The upper limit; None for none."""
    least: float | None = None
    """The lower limit; None for none."""

    @property
    def limit(self) -> str:
        """The limit as text; empty without a limit."""
        if self.most is not None:
            return f"at most {self.form.format(self.most)}"
        return "" if self.least is None else f"at least {self.form.format(self.least)}"

    def reached(self, measured: Sequence[Measured]) -> bool | None:
        """Return whether the value is within its limit; None without a limit or a value."""
        value = self.value(measured)
        if value is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )


@attrs.frozen
class Case:
    """The runs of a case, and the figures computed from the runs."""

    name: str
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    baseline: bool = False
    """True if each run is between two runs of the baseline."""

    def missed(self, measured: Sequence[Measured]) -> list[str]:
        """Return the names of the figures that exceed their limits."""
        return [figure.name for figure in self.figures if figure.reached(measured) is False]
