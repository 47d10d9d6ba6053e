"""Findings: the result of one check, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

__all__ = ["Finding", "Findings", "Outcome"]


class Outcome(StrEnum):
    """The outcome of one check."""

    OK = "ok"
    WARNING = "warning"
    """The server runs; a function is limited or will fail."""
    FAILED = "failed"
    """The server does not start, or a function is unavailable."""


_WORST_FIRST: Final = (Outcome.FAILED, Outcome.WARNING, Outcome.OK)


@attrs.frozen
class Finding:
    """The result of one check.

    Args:
        check: what was checked.
        outcome: the outcome.
        text: the finding.
        action: the remedy; empty if none is needed.
    """

    check: str
    outcome: Outcome
    text: str
    action: str = ""


class Findings:
    """Collects findings; calls a function with each new finding."""

    def __init__(self, report: Callable[[Finding], None]) -> None:
        self._report = report
        self._all: list[Finding] = []

    def add(self, check: str, outcome: Outcome, text: str, action: str = "") -> None:
        """Add a finding."""
        finding = Finding(check, outcome, text, action)
        self._all.append(finding)
        self._report(finding)

    def ok(self, check: str, text: str) -> None:
        """Add a finding without a problem."""
        self.add(check, Outcome.OK, text)

    def warn(self, check: str, text: str, action: str) -> None:
        """Add a warning."""
        self.add(check, Outcome.WARNING, text, action)

    def fail(self, check: str, text: str, action: str) -> None:
        """Add a failure."""
        self.add(check, Outcome.FAILED, text, action)

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of all findings; ok without findings."""
        found = {finding.outcome for finding in self._all}
        return next((outcome for outcome in _WORST_FIRST if outcome in found), Outcome.OK)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """The number of findings by outcome."""
        return Counter(finding.outcome for finding in self._all)

    def as_json(self) -> dict[str, Any]:
        """Return all findings in the form that `--json` prints."""
        return {
            "outcome": self.outcome,
            "findings": [attrs.asdict(finding) for finding in self._all],
        }
