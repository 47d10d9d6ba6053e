"""Each log line and each text of the server that a page quotes exists in the code."""

from __future__ import annotations

import re

import pytest

from odin_ws.kafka.source_status import SourceState
from tests.docs.log_lines import GAP, logged, quoted_log_lines, quoted_texts, texts
from tests.docs.pages import ROOT, page, pages, read_table

NAMES = [str(path.relative_to(ROOT)) for path in pages()]

# Pages by which an operator looks for what the server said.
OPERATORS = [
    f"docs/{name}.md"
    for name in (
        "alerts",
        "back-pressure",
        "dead-letter-queue",
        "history",
        "kafka",
        "monitoring",
        "rate-limiting",
        "shutdown",
        "troubleshooting",
    )
]

# An f-string with fewer characters of its own could become almost any quote.
LEAST_TEXT = 8

# Logged without a call of a logger.
NO_CALL = {"log lines were dropped": "the log's own thread writes it, past its queue"}

# On standard error as log lines are, and none.
NO_LOG_LINES = {"odin-ws: stopped by SIGTERM before it began": "a signal before there is a log"}

PROGRAMS = {
    "chronyc",
    "curl",
    "kafka-transactions.sh",
    "kubectl",
    "make",
    "nstat",
    "odin-ws",
    "promtool",
    "python",
    "ss",
    "systemctl",
    "topics",
}

# Neither a command nor a text of the server.
OTHERS = {
    "authorization: {credentials_file: …}": "Prometheus' configuration",
    "authentication failed": "the beginning of a text that goes on with the broker's words",
    "delivery: all": "a field of a command",
    "delivery: latest": "a field of a command",
    "feed: starting": "a field of /health",
    "feed: stalled": "a field of /health",
    "not ready: draining": "a response of the ops port, made of two texts",
}


def all_logged() -> dict[str, str]:
    """The level of each log line, with the states of the feed written out."""
    lines = dict(logged())
    level = lines.pop(f"feed is {GAP}")
    assert level == "info"
    lines |= {f"feed is {state}": "info" for state in SourceState}
    lines[f"feed is {SourceState.STALLED}"] = "warning"
    return lines | dict.fromkeys(NO_CALL, "error")


def test_every_log_line_has_its_row() -> None:
    """docs/monitoring.md explains each log line of the code, with its level, and no other."""
    rows = {row[0].strip("`"): row[1] for row in read_table(page("docs/monitoring.md"), "events")}
    lines = all_logged()
    # At the start a feed has no state to log.
    del lines["feed is starting"], lines["%s %s"]
    assert rows == lines


def test_quoted_log_lines_are_logged() -> None:
    """A page that sends its reader to a log line quotes it as the server writes it."""
    unknown = {
        name: quoted_log_lines(name) - all_logged().keys() - NO_LOG_LINES.keys() for name in NAMES
    }
    assert {name: lines for name, lines in unknown.items() if lines} == {}


def test_log_lines_are_found_on_pages() -> None:
    """The pages that lead to log lines most do so in words that this file recognises."""
    assert "JWKS unavailable" in quoted_log_lines("docs/alerts.md")
    assert "worker start failed" in quoted_log_lines("docs/alerts.md")
    assert "Kafka unavailable, retrying" in quoted_log_lines("docs/troubleshooting.md")
    assert "certificate reloaded" in quoted_log_lines("docs/troubleshooting.md")
    assert sum(len(quoted_log_lines(name)) for name in NAMES) > 20


@pytest.mark.parametrize("name", OPERATORS)
def test_quoted_texts_of_the_server_are_in_its_code(name: str) -> None:
    """Each quote of several words is a command, or words that the server writes."""
    unknown = {
        text
        for text in quoted_texts(name)
        if text.split()[0] not in PROGRAMS and text not in OTHERS and not is_written(text)
    }
    assert unknown == set()


def is_written(quote: str) -> bool:
    """Return whether a text of the code has the quote, or an f-string can become it.

    `…` and numbers in the quote stand for anything.
    """
    quoted = _pattern(re.sub(r"\d+", "…", quote), "…")
    return any(quoted.search(text) for text in texts()) or any(
        _pattern(text, GAP).fullmatch(quote)
        for text in texts()
        if len(text.replace(GAP, "")) >= LEAST_TEXT
    )


def _pattern(text: str, gap: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split(gap))))
