"""Findings: their order, their counts, their JSON."""

from __future__ import annotations

import json

import pytest

from odin_ws.cli.check import print_finding
from odin_ws.cli.checks.findings import Finding, Findings, Outcome


def test_each_finding_is_reported_as_it_comes() -> None:
    """An operator reads them while the next check runs."""
    shown: list[Finding] = []
    findings = Findings(shown.append)
    findings.ok("a", "fine")
    assert shown == [Finding("a", Outcome.OK, "fine")]
    findings.warn("b", "hm", "do this")
    findings.fail("c", "no", "do that")
    assert [one.outcome for one in shown] == [Outcome.OK, Outcome.WARNING, Outcome.FAILED]
    assert findings.counts == {"ok": 1, "warning": 1, "failed": 1}


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        ([], Outcome.OK),
        (["ok"], Outcome.OK),
        (["warning", "ok"], Outcome.WARNING),
        (["failed", "ok", "warning"], Outcome.FAILED),
    ],
)
def test_the_outcome_of_all_is_the_worst(outcomes: list[str], worst: Outcome) -> None:
    """The exit status depends on it."""
    findings = Findings(lambda _finding: None)
    for outcome in outcomes:
        findings.add("a", Outcome(outcome), "text")
    assert findings.outcome is worst


def test_json_has_every_finding_with_its_action() -> None:
    """Fields are there also if they are empty."""
    findings = Findings(lambda _finding: None)
    findings.ok("a", "fine")
    findings.fail("b", "no", "do that")
    assert json.loads(json.dumps(findings.as_json())) == {
        "outcome": "failed",
        "findings": [
            {"check": "a", "outcome": "ok", "text": "fine", "action": ""},
            {"check": "b", "outcome": "failed", "text": "no", "action": "do that"},
        ],
    }


def test_finding_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Its text may be a broker's or a server's."""
    print_finding(Finding("a\x1b[2J", Outcome.FAILED, "b\x9b", "c\r"))
    shown = capsys.readouterr().out
    assert ("\x1b[2J" in shown, "\x9b" in shown, "\r" in shown) == (False, False, False)
    assert "\\x1b[2J" in shown
