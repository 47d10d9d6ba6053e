"""Every warning and error of the health report has advice: what to do."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from odin_ws.ops import health
from odin_ws.ops.console.advice import ADVICE, GENERAL, advise
from odin_ws.workers import ops_app

ROOT = Path(__file__).parents[3]

LINES = [
    "kafka: starting for 3 s: not connected yet",
    "kafka: stalled for 12 s: no broker answers",
    "kafka: stopped for 1 s: ",
    "kafka: topics do not exist: odin.social",
    "kafka: odin.trades 1, 2: no leader",
    "kafka: paced: WS_MAX_KAFKA_RATE=1000 holds records back",
    "capacity: 95%",
    "memory: 93%",
    "cpu: 99%",
    "memory: it cannot be measured",
    "cpu: it cannot be measured",
    "tls: the certificate expires in 3 days",
    "canary: the step connect failed: no answer",
    "draining",
    "worker 2: does not respond",
    "worker 12: is being replaced",
    "worker 1: has exited",
    "worker 3: cpu: 97%",
]


@pytest.mark.parametrize("line", LINES)
def test_line_of_health_has_an_action(line: str) -> None:
    """The advice has an action, and the page that explains it."""
    (found,) = advise([], [line])
    assert found["level"] == "warning"
    assert found["text"] == line
    assert found["action"].endswith(".")
    assert (found["action"], found["see"]) != GENERAL


def test_health_line_without_advice_gets_general_advice() -> None:
    """An unknown line does not break the console."""
    (found,) = advise(["a line of the future"], [])
    assert (found["action"], found["see"]) == GENERAL


def test_partitions_are_left_out_while_the_whole_feed_has_an_error() -> None:
    """Eight topics would say what the feed says, and that the other partitions are read."""
    stalled = "kafka: stalled for 12 s: no broker answers"
    topics = [
        "kafka: odin.trades 0, 1: no broker answers",
        "kafka: odin.social 0: no broker answers",
    ]
    warnings = [*topics, "cpu: 99%"]
    assert [one["text"] for one in advise([stalled], warnings)] == [stalled, "cpu: 99%"]
    assert [one["text"] for one in advise([], warnings)] == warnings
    of_workers = [f"worker {number}: {topics[0]}" for number in (1, 2)]
    found = advise([f"worker 2: {stalled}"], of_workers)
    assert [one["text"] for one in found] == [f"worker 2: {stalled}", of_workers[0]]


def test_health_source_has_no_other_lines() -> None:
    """The texts in the source of health, up to their first value, are the ones above."""
    sources = [
        inspect.getsource(health._warnings),  # noqa: SLF001 -- what it says is the point
        inspect.getsource(health._errors),  # noqa: SLF001
        inspect.getsource(ops_app._Pages._state),  # noqa: SLF001
    ]
    reported = {text for source in sources for text in re.findall(r'f?"([a-z]+[: ][^"{]*)', source)}
    reported -= {"does not respond", "has exited", "is being replaced"}
    assert {text.split()[0] for text in reported} <= {line.split()[0] for line in LINES}


@pytest.mark.parametrize("see", sorted({see for _, _, see in ADVICE}))
def test_advice_links_to_existing_heading(see: str) -> None:
    """The page exists and has the heading."""
    name, _, anchor = see.partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
    assert not anchor or anchor in anchors
