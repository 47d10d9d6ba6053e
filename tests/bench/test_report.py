"""What is said about measurements."""

from __future__ import annotations

import orjson
import pytest

from odin_ws.bench.report import costs, problems, ratio, rows, warnings
from odin_ws.bench.results import Measurement
from tests.bench.results_factory import measurement, sample

BASELINE = measurement(label="baseline before", cpu_seconds=0.1)
SLOWER_BASELINE = measurement(label="baseline after", cpu_seconds=0.3)


def test_what_follows() -> None:
    """Rates, costs and memory are those of the window and the connections."""
    one = measurement()

    assert one.delivered == 2000
    assert one.cpu_us == pytest.approx(10)
    assert one.cpu_percent == pytest.approx(2)
    assert one.connects == 200
    assert one.idle_kb == 20
    assert one.streaming_kb == 25
    assert not one.failed


def test_nothing_to_divide_by() -> None:
    """Where nobody is connected there are no costs, and no error."""
    one = measurement(connections=0, subscribed=0, connect_seconds=0.0, received=0, latency=None)

    assert (one.cpu_us, one.connects, one.idle_kb) == (None, None, None)
    assert ratio(one, [BASELINE]) is None
    assert rows([one], [])


def test_growth() -> None:
    """Memory's growth is from the second quarter to the last; the first may still fill caches."""
    rss = [1, 50, 100, 100, 100, 100, 105, 115]
    one = measurement(samples=[sample(at, size) for at, size in enumerate(rss)])

    assert one.growth_percent == pytest.approx(10)


def test_json() -> None:
    """All of a measurement is written, but for the histogram."""
    written = orjson.loads(orjson.dumps(measurement(samples=[sample(1, 5)]).to_json()))

    assert written["latency"]["p99"] == 60
    assert written["samples"][0]["rss"] == 5
    assert written["cpu_us"] == pytest.approx(10)
    assert "counts" not in written


def test_ratio() -> None:
    """A run is compared with the mean of the baselines around it."""
    assert ratio(measurement(), [BASELINE, SLOWER_BASELINE]) == pytest.approx(1)
    assert costs(measurement(), [BASELINE, SLOWER_BASELINE]) == "10.00 us, 5.00 us, 15.00 us"
    assert ratio(measurement(), []) is None


def test_rows() -> None:
    """A quantity is a row with a value of each run; what no run has is left out."""
    table = {row[0]: row[1:] for row in rows([measurement()], [BASELINE, SLOWER_BASELINE])}

    assert table["delivered"] == ["2,000/s"] * 3
    assert table["latency p99"] == ["60.0 ms"] * 3
    assert table["latency max"] == ["90.0 ms"] * 3
    assert table["CPU against the baseline"] == ["1.00 x", "", ""]
    assert "closes by code" not in table
    assert "all reconnected after" not in table


def test_closes() -> None:
    """Closes and rejections are listed by code."""
    one = measurement(closes={"1008 slow": 2, "1012 draining": 1}, rejected_connections={"503": 4})
    table = {row[0]: row[1] for row in rows([one], [])}

    assert table["closes by code"] == "2 x 1008 slow, 1 x 1012 draining"
    assert table["rejected"] == "4 x 503"


def test_problems() -> None:
    """Whatever must not happen is said, and makes the run a failure."""
    one = measurement(problems={"lost": 3, "seq_gap": 1, "doubled": 0})

    assert one.failed
    assert problems(one) == ["steady: 3 lost", "steady: 1 seq gap"]


BUSY = {
    "load": (measurement(load_cpu=0.91), "the load took 91% of a core"),
    "publisher": (measurement(publisher_cpu=0.95), "the publisher took 95% of a core"),
    "all else": (measurement(others_cpu=0.98), "busy for 98% of the time"),
    "behind": (measurement(published_rate=17.0), "only 17 records/s were published"),
}


@pytest.mark.parametrize(("one", "said"), BUSY.values(), ids=BUSY)
def test_warnings(one: Measurement, said: str) -> None:
    """Figures that may be those of the load side are not left without a word."""
    (line,) = warnings(one)

    assert said in line


def test_no_warnings() -> None:
    """Of a run that the server alone decided nothing is said."""
    assert warnings(measurement()) == []
