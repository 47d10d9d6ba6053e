"""What a check finds, for tests."""

from __future__ import annotations

from collections.abc import Callable

from odin_ws.cli.checks.findings import Finding, Findings, Outcome

__all__ = ["found", "only"]


def found(check: Callable[[Findings], object]) -> list[Finding]:
    """Run a check; returns its findings."""
    shown: list[Finding] = []
    check(Findings(shown.append))
    return shown


def only(findings: list[Finding], check: str, outcome: Outcome) -> Finding:
    """The one finding of a check; it has this outcome, and an action unless it is ok."""
    (one,) = (finding for finding in findings if finding.check == check)
    assert one.outcome is outcome, one
    assert bool(one.action) is (outcome is not Outcome.OK), one
    return one
