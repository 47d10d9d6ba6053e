"""The runs that measure memory fail for each broken promise, and for nothing else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.hostile.churn import Churn, ChurnState, report_churn
from tests.hostile.names import LIMIT, Names, NamesState, report_names

MB = 1_000_000
FIRST = ChurnState(20_000, 100 * MB, 20, 0)
LAST = ChurnState(200_000, 102 * MB, 20, 0)
NAMES = NamesState(LIMIT * 11 // 10, 200, 100_000, 50, 5.0)
LOGGED = '{"event": "failed", "exception": [{"exc_type": "KeyError"}]}\n'


def test_churn_without_leftovers_breaks_no_promise() -> None:
    """Memory may grow by 3% after the first tenth of the connections."""
    churned = Churn(FIRST, LAST, 100, 150_000, "")
    assert churned.broken == []
    assert [line.partition(":")[0] for line in report_churn(churned)][:2] == [
        "after    20,000 connections",
        "after   200,000 connections",
    ]


@pytest.mark.parametrize(
    ("last", "changes", "violation"),
    [
        ({"rss": 104 * MB}, {}, "memory has grown by 4.0%"),
        ({"connections": 2}, {}, "2 connections are left"),
        ({"descriptors": 23}, {}, "3 descriptors are left"),
        ({}, {"upgraded": 0}, "no client was upgraded"),
        ({}, {"log": LOGGED}, "there is a traceback in the log"),
    ],
)
def test_churn_with_leftovers_fails(
    last: dict[str, int], changes: dict[str, Any], violation: str
) -> None:
    """Each broken promise has a sentence of its own."""
    churned = Churn(FIRST, attrs.evolve(LAST, **last), 100, 150_000, "")
    assert attrs.evolve(churned, **changes).broken == [violation]


def test_names_within_the_memory_limit_break_no_promise() -> None:
    """The memory estimate may miss a tenth, and new clients may wait some seconds."""
    names = Names(70 * MB, [NAMES, NAMES], "")
    assert names.broken == []
    assert len(list(report_names(names))) == 3


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"rss": 329 * MB}, "time 2: 329.0 MB of 150"),
        ({"seconds": 60.0}, "time 2: newcomers wait for 60.0 s"),
        ({"patterns": 0}, "time 2: nobody could subscribe"),
    ],
)
def test_names_over_the_memory_limit_fail(changes: dict[str, Any], violation: str) -> None:
    """It also fails if only the second round breaks a promise."""
    names = Names(70 * MB, [NAMES, attrs.evolve(NAMES, **changes)], "")
    assert names.broken == [violation]
    assert attrs.evolve(names, log=LOGGED).broken[-1] == "there is a traceback in the log"
