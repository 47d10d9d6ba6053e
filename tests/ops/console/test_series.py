"""The ring of samples: order, limits, and values that are missing."""

from __future__ import annotations

import math

import orjson
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.ops.console.series import Series


def test_samples_after_a_time_are_returned_in_order() -> None:
    """Gauges and counts are separate; each series has a value for every time."""
    series = Series()
    series.append(10, {"cpu": 1.5}, {"closed:slow": 2})
    series.append(11, {"cpu": 2.5}, {})
    series.append(13, {"cpu": 3.5}, {})
    assert series.after(10) == {
        "t": [11, 13],
        "gauges": {"cpu": [2.5, 3.5]},
        "counts": {"closed:slow": [0, 0]},
    }
    assert series.after(13) == {"t": [], "gauges": {"cpu": []}, "counts": {"closed:slow": []}}
    assert series.last == 13


def test_series_that_begins_later_is_unknown_or_0_before() -> None:
    """Before its first sample a gauge is null and a count is 0."""
    series = Series()
    series.append(1, {}, {})
    series.append(2, {"lag": 7}, {"closed:slow": 1})
    series.append(3, {"lag": None}, {})
    series.append(4, {}, {})
    samples = series.after(0)
    assert orjson.loads(orjson.dumps(samples["gauges"])) == {"lag": [None, 7, None, None]}
    assert samples["counts"] == {"closed:slow": [0, 1, 0, 0]}


def test_clock_that_is_set_back_adds_nothing() -> None:
    """Samples are dropped until the clock passes the last time: times only increase."""
    series = Series()
    for at in (100, 40, 100, 101):
        series.append(at, {"n": at}, {})
    assert series.after(0)["t"] == [100, 101]


@given(st.integers(1, 400), st.integers(1, 50))
def test_memory_is_bounded_and_the_newest_stay(count: int, limit: int) -> None:
    """The newest `limit` samples are kept."""
    series = Series(limit)
    for at in range(1, count + 1):
        series.append(at, {"at": at}, {"once": at == 1})
    samples = series.after(0)
    assert samples["t"] == list(range(max(1, count - limit + 1), count + 1))
    assert samples["gauges"]["at"] == samples["t"]
    assert all(len(column) == len(samples["t"]) for column in samples["counts"].values())
    assert len(series._times) < limit + 60  # noqa: SLF001 -- the bound itself


def test_series_without_a_value_for_the_whole_time_is_forgotten() -> None:
    """A reason is dropped with its last sample; a gauge of 0 is kept."""
    series = Series(10)
    series.append(1, {"zero": 0}, {"closed:slow": 3})
    for at in range(2, 100):
        series.append(at, {"zero": 0}, {})
    samples = series.after(0)
    assert samples["counts"] == {}
    assert samples["gauges"] == {"zero": [0.0] * 10}


def test_samples_of_another_process_are_added_once() -> None:
    """Samples that were added before are skipped; null is unknown."""
    ours, theirs = Series(), Series()
    theirs.append(1, {"cpu": 1.0}, {})
    ours.extend(orjson.loads(orjson.dumps(theirs.after(0))))
    theirs.append(2, {"cpu": None}, {"closed:slow": 4})
    ours.extend(orjson.loads(orjson.dumps(theirs.after(0))))
    samples = ours.after(0)
    assert samples["t"] == [1, 2]
    assert samples["gauges"]["cpu"][0] == 1.0
    assert math.isnan(samples["gauges"]["cpu"][1])
    assert samples["counts"] == {"closed:slow": [0, 4]}
