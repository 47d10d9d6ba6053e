"""Filters of the benchmark: which records meet them, and how the reader checks that."""

from __future__ import annotations

import numpy as np
import pytest

from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.reader import Problem, Tables, parse
from odin_ws.bench.workload import SCENARIOS, Workload
from odin_ws.protocol.filters import Fields, read_filter
from tests.bench.frames import message, octets

THRESHOLDS = Workload(filters=5, thresholds=True)


def filtered(threshold: int) -> Tables:
    """Tables of a connection whose filter is met by remainders of 5 from a threshold on."""
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
    """Read messages with these numbers, after the number 0; returns the problems."""
    state.numbers[:] = 0
    for seq, number in enumerate(numbers, 1):
        data = octets(message(seq, number))
        parse(data, len(data), 0, 0, state)
    return {one: int(state.problems[one]) for one in Problem if state.problems[one]}


@pytest.mark.parametrize("threshold", range(5))
def test_matched_is_a_count(threshold: int) -> None:
    """One number and many at once have the counts that counting has."""
    counts = [sum(n % 5 >= threshold for n in range(number + 1)) for number in range(40)]
    numbers = np.arange(40)
    assert [matched(number, 5, threshold) for number in range(40)] == counts
    assert matched(numbers, 5, np.full(40, threshold)).tolist() == counts
    assert [matched(number, 0, 0) for number in range(5)] == [1, 2, 3, 4, 5]


def test_records_that_a_filter_leaves_out_are_not_lost() -> None:
    """Remainders of 3 and 4 meet the filter."""
    assert problems(filtered(3), 3, 4, 8, 9, 13) == {}


def test_records_that_meet_a_filter_and_are_left_out_are_lost() -> None:
    """4 and 8 are missing; 5, 6 and 7 are not."""
    assert problems(filtered(3), 3, 9) == {Problem.LOST: 2}


def test_records_that_do_not_meet_the_filter_are_unwanted() -> None:
    """7 has the remainder 2."""
    assert problems(filtered(3), 3, 4, 7, 8) == {Problem.UNWANTED: 1}


@pytest.mark.parametrize("workload", [THRESHOLDS, Workload(filters=5)], ids=["half", "all"])
def test_filters_are_met_by_the_numbers_that_the_reader_expects(workload: Workload) -> None:
    """The server's own filters decide the same, and no two of them are one filter."""
    filters = [read_filter(workload.filter_of(number)) for number in range(10)]
    assert len(set(filters)) == 5
    for subscriber, one in enumerate(filters):
        for number in range(20):
            fields = Fields(b'{"data":{"m":%d}}' % (number % 5))
            assert one.matches(fields) == (number % 5 >= workload.threshold(subscriber))


def test_scenario_compares_filters_with_none() -> None:
    """One run without filters, one whose filters are all met, and one with thresholds."""
    kinds = [(one.workload.filters, one.workload.thresholds) for one in SCENARIOS["filters"].runs]
    assert kinds == [(0, False), (50, False), (50, True)]
