"""The report of measurements."""

from __future__ import annotations

import orjson
import pytest

from odin_ws.bench.report import costs, problems, ratio, rows, warnings
from odin_ws.bench.results import Measurement
from tests.bench.results_factory import measurement, sample

BASELINE = measurement(label="baseline before", cpu_seconds=0.1)
SLOWER_BASELINE = measurement(label="baseline after", cpu_seconds=0.3)


def test_measurement_has_rates_costs_and_memory() -> None:
    """Rates are per second of the measurement, costs per message, memory per connection."""
    one = measurement()

    assert one.delivered == 2000
    assert one.cpu_us == pytest.approx(10)
    assert one.cpu_percent == pytest.approx(2)
    assert one.connects == 200
    assert one.idle_kb == 20
    assert one.streaming_kb == 25
    assert not one.failed


def test_measurement_of_no_connections_has_no_costs() -> None:
    """The derived figures are None and raise no error."""
    one = measurement(connections=0, subscribed=0, connect_seconds=0.0, received=0, latency=None)

    assert (one.cpu_us, one.connects, one.idle_kb) == (None, None, None)
    assert ratio(one, [BASELINE]) is None
    assert rows([one], [])


def test_memory_growth_is_from_second_to_last_quarter() -> None:
    """In the first quarter, caches still grow."""
    rss = [1, 50, 100, 100, 100, 100, 105, 115]
    one = measurement(samples=[sample(at, size) for at, size in enumerate(rss)])

    assert one.growth_percent == pytest.approx(10)


def test_json_has_all_fields_except_histogram() -> None:
    """Derived values are included."""
    written = orjson.loads(orjson.dumps(measurement(samples=[sample(1, 5)]).to_json()))

    assert written["latency"]["p99"] == 60
    assert written["samples"][0]["rss"] == 5
    assert written["cpu_us"] == pytest.approx(10)
    assert "counts" not in written


def test_ratio_is_to_mean_of_baselines() -> None:
    """Without baselines the ratio is None."""
    assert ratio(measurement(), [BASELINE, SLOWER_BASELINE]) == pytest.approx(1)
    assert costs(measurement(), [BASELINE, SLOWER_BASELINE]) == "10.00 us, 5.00 us, 15.00 us"
    assert ratio(measurement(), []) is None


def test_rows_have_a_value_of_each_run() -> None:
    """Quantities without a value in any run are left out."""
    table = {row[0]: row[1:] for row in rows([measurement()], [BASELINE, SLOWER_BASELINE])}

    assert table["delivered"] == ["2,000/s"] * 3
    assert table["latency p99"] == ["60.0 ms"] * 3
    assert table["latency max"] == ["90.0 ms"] * 3
    assert table["CPU against the baseline"] == ["1.00 x", "", ""]
    assert "closes by code" not in table
    assert "all reconnected after" not in table


def test_closes_and_rejections_are_listed_by_code() -> None:
    """The report lists each code with its count."""
    one = measurement(closes={"1008 slow": 2, "1012 draining": 1}, rejected_connections={"503": 4})
    table = {row[0]: row[1] for row in rows([one], [])}

    assert table["closes by code"] == "2 x 1008 slow, 1 x 1012 draining"
    assert table["rejected"] == "4 x 503"


def test_problems_make_a_run_failed() -> None:
    """Each problem is a line."""
    one = measurement(problems={"lost": 3, "seq_gap": 1, "doubled": 0})

    assert one.failed
    assert problems(one) == ["steady: 3 lost", "steady: 1 seq gap"]


BUSY = {
    "load": (measurement(load_cpu=0.91), "the load took 91% of a core"),
    "publisher": (measurement(publisher_cpu=0.95), "the publisher took 95% of a core"),
    "all else": (measurement(others_cpu=0.98), "busy for 98% of the time"),
    "behind": (measurement(published_rate=17.0), "only 17 records/s were published"),
}


@pytest.mark.parametrize(("one", "expected"), BUSY.values(), ids=BUSY)
def test_figures_limited_by_load_side_have_a_warning(one: Measurement, expected: str) -> None:
    """The load processes, the publisher or the machine may have limited the run."""
    (line,) = warnings(one)

    assert expected in line


def test_run_limited_by_the_server_has_no_warning() -> None:
    """The load processes, the publisher and the machine have free CPU."""
    assert warnings(measurement()) == []
