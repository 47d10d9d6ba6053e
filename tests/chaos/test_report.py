"""The report says what was found, in a terminal and on a page."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tests.chaos.assess import Assessment, Row, Window
from tests.chaos.journal import HEARTBEAT, LOST
from tests.chaos.report import as_markdown, show

KILL = Window("kill -9", "", 0, 20, struck=1.25, codes=frozenset({LOST}), most=2)
SKIPPED = Window("loss", "", 20, 20, skipped="no netem")
ROW = Row(KILL, {LOST: 2, HEARTBEAT: 1}, 1, 1234, [0.1, 0.2, 2.5])


def found(problems: list[str], missing: int) -> Assessment:
    """A run with one fault."""
    return Assessment([ROW], 3, 5000, 10000, {"missing": missing, "duplicated": 0}, problems)


def test_the_page() -> None:
    """A page gets a table, the scale of the run, its counts and what was skipped."""
    text = as_markdown(found([], 0), [KILL, SKIPPED])
    assert (
        "| kill -9 | 1.2 s | 1 x own heartbeat, 2 x 1006 | 1,234 | 0.2 s | 2.5 s | 2.5 s |" in text
    )
    assert "5,000 records, 3 clients, 10,000 messages to be received: missing 0, dup" in text
    assert "- loss: skipped, no netem" in text


def shown(assessment: Assessment) -> str:
    """The rows of a wide terminal."""
    output = StringIO()
    show(Console(file=output, width=200), assessment, [KILL, SKIPPED])
    return output.getvalue()


def test_the_terminal_of_a_good_run() -> None:
    """A good run is green."""
    text = shown(found([], 0))
    assert "green: missing 0" in text
    assert "loss: skipped, no netem" in text


def test_the_terminal_of_a_bad_run() -> None:
    """A bad run is red, with its evidence, of which there may be too much to show."""
    text = shown(found([f"c{number}: missing" for number in range(25)], 25))
    assert "red: missing 25" in text
    assert "c19: missing" in text
    assert "and 5 more" in text
