"""Filters of the benchmark: matching records, and how the reader checks them."""

from __future__ import annotations

import numpy as np
import pytest

from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.frame_reader import parse
from odin_ws.bench.tables import Problem, Tables
from odin_ws.bench.workload import SCENARIOS, Workload
from odin_ws.protocol.filters import Fields, read_filter
from tests.bench.frames import message, octets

THRESHOLDS = Workload(filters=5, thresholds=True)


def filtered(threshold: int) -> Tables:
    """Return tables of a connection with a filter for remainders of 5 from a threshold on."""
    return Tables.empty(
        np.array([0, 1]),
        np.array([0]),
        np.zeros(1, np.int64),
        topics=1,
        partitions=12,
        thresholds=np.array([threshold]),
        filters=5,
    )


def problems(state: Tables, *numbers: int) -> dict[Problem, int]:
    """Read messages with these numbers, after the number 0; return the problems."""
    state.numbers[:] = 0
    for seq, number in enumerate(numbers, 1):
        data = octets(message(seq, number))
        parse(data, len(data), 0, 0, state)
    return {one: int(state.problems[one]) for one in Problem if state.problems[one]}


@pytest.mark.parametrize("threshold", range(5))
def test_matched_equals_counting(threshold: int) -> None:
    """`matched` accepts a single number and an array."""
    counts = [sum(n % 5 >= threshold for n in range(number + 1)) for number in range(40)]
    numbers = np.arange(40)
    assert [matched(number, 5, threshold) for number in range(40)] == counts
    assert matched(numbers, 5, np.full(40, threshold)).tolist() == counts
    assert [matched(number, 0, 0) for number in range(5)] == [1, 2, 3, 4, 5]


def test_filtered_records_are_not_lost() -> None:
    """The filter matches the remainders 3 and 4."""
    assert problems(filtered(3), 3, 4, 8, 9, 13) == {}


def test_missing_matching_records_are_lost() -> None:
    """4 and 8 match and are missing; 5, 6 and 7 do not match."""
    assert problems(filtered(3), 3, 9) == {Problem.LOST: 2}


def test_records_that_do_not_match_are_unwanted() -> None:
    """7 has the remainder 2."""
    assert problems(filtered(3), 3, 4, 7, 8) == {Problem.UNWANTED: 1}


@pytest.mark.parametrize("workload", [THRESHOLDS, Workload(filters=5)], ids=["half", "all"])
def test_server_filters_match_numbers_that_reader_expects(workload: Workload) -> None:
    """All filters are different."""
    filters = [read_filter(workload.filter_of(number)) for number in range(10)]
    assert len(set(filters)) == 5
    for subscriber, one in enumerate(filters):
        for number in range(20):
            fields = Fields(b'{"data":{"m":%d}}' % (number % 5))
            assert one.matches(fields) == (number % 5 >= workload.threshold(subscriber))


def test_scenario_has_runs_with_and_without_filters() -> None:
    """One run has no filters, one has filters that match all records, and one has thresholds."""
    kinds = [(run.workload.filters, run.workload.thresholds) for run in SCENARIOS["filters"].runs]
    assert kinds == [(0, False), (50, False), (50, True)]
