"""The report contains the assessment, on a terminal and on a page."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tests.chaos.assess import Assessment, Row, Window
from tests.chaos.journal import HEARTBEAT, LOST
from tests.chaos.report import as_markdown, show

KILL = Window("kill -9", "", 0, 20, fault_seconds=1.25, codes=frozenset({LOST}), maximum=2)
SKIPPED = Window("loss", "", 20, 20, skipped="no netem")
ROW = Row(KILL, {LOST: 2, HEARTBEAT: 1}, 1, 1234, [0.1, 0.2, 2.5])


def assessment(problems: list[str], missing: int) -> Assessment:
    """Return an assessment with one fault."""
    return Assessment([ROW], 3, 5000, 10000, {"missing": missing, "duplicated": 0}, problems)


def test_markdown_has_table_scale_counts_and_skipped_faults() -> None:
    """A page has a table, the scale of the run, its counts and the skipped faults."""
    text = as_markdown(assessment([], 0), [KILL, SKIPPED])
    assert (
        "| kill -9 | 1.2 s | 1 x own heartbeat, 2 x 1006 | 1,234 | 0.2 s | 2.5 s | 2.5 s |" in text
    )
    assert "5,000 records, 3 clients, 10,000 messages to be received: missing 0, dup" in text
    assert "- loss: skipped, no netem" in text


def printed(assessment: Assessment) -> str:
    """Return the report on a wide terminal."""
    output = StringIO()
    show(Console(file=output, width=200), assessment, [KILL, SKIPPED])
    return output.getvalue()


def test_terminal_report_of_a_good_run_is_green() -> None:
    """The last line says `green`."""
    text = printed(assessment([], 0))
    assert "green: missing 0" in text
    assert "loss: skipped, no netem" in text


def test_terminal_report_of_a_bad_run_is_red_with_evidence() -> None:
    """The last line says `red`; only 20 problems are printed."""
    text = printed(assessment([f"c{number}: missing" for number in range(25)], 25))
    assert "red: missing 25" in text
    assert "c19: missing" in text
    assert "and 5 more" in text
