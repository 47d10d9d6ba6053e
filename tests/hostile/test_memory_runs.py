"""The runs that look at memory fail for each promise that is broken, and for nothing else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.hostile.churn import Churn, ChurnStand, report_churn
from tests.hostile.names import LIMIT, Names, NamesStand, report_names

MB = 1_000_000
FIRST = ChurnStand(20_000, 100 * MB, 20, 0)
LAST = ChurnStand(200_000, 102 * MB, 20, 0)
NAMES = NamesStand(LIMIT * 11 // 10, 200, 100_000, 50, 5.0)
LOGGED = '{"event": "failed", "exception": [{"exc_type": "KeyError"}]}\n'


def test_a_churn_that_leaves_nothing_behind_brings_no_complaint() -> None:
    """Memory may grow by 3% from the first tenth on."""
    churned = Churn(FIRST, LAST, 100, 150_000, "")
    assert churned.broken == []
    assert [line.partition(":")[0] for line in report_churn(churned)][:2] == [
        "after    20,000 connections",
        "after   200,000 connections",
    ]


@pytest.mark.parametrize(
    ("last", "changes", "complaint"),
    [
        ({"rss": 104 * MB}, {}, "memory has grown by 4.0%"),
        ({"connections": 2}, {}, "2 connections are left"),
        ({"descriptors": 23}, {}, "3 descriptors are left"),
        ({}, {"upgraded": 0}, "nobody was let in"),
        ({}, {"log": LOGGED}, "there is a traceback in the log"),
    ],
)
def test_a_churn_that_leaves_something_behind_fails(
    last: dict[str, int], changes: dict[str, Any], complaint: str
) -> None:
    """Each by a sentence of its own."""
    churned = Churn(FIRST, attrs.evolve(LAST, **last), 100, 150_000, "")
    assert attrs.evolve(churned, **changes).broken == [complaint]


def test_names_within_the_limit_bring_no_complaint() -> None:
    """The estimate between two measurements may miss a tenth, and newcomers wait for seconds."""
    names = Names(70 * MB, [NAMES, NAMES], "")
    assert names.broken == []
    assert len(list(report_names(names))) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rss": 329 * MB}, "time 2: 329.0 MB of 150"),
        ({"seconds": 60.0}, "time 2: newcomers wait for 60.0 s"),
        ({"patterns": 0}, "time 2: nobody could subscribe"),
    ],
)
def test_names_that_take_too_much_fail(changes: dict[str, Any], complaint: str) -> None:
    """Also the second time only."""
    names = Names(70 * MB, [NAMES, attrs.evolve(NAMES, **changes)], "")
    assert names.broken == [complaint]
    assert attrs.evolve(names, log=LOGGED).broken[-1] == "there is a traceback in the log"
