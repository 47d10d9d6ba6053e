"""The figures that have limits."""

from __future__ import annotations

import pytest

from odin_ws.bench.suite import CASES, Case, Figure, Measured
from odin_ws.bench.workload import EVENTS, SCENARIOS, SUITES, Run
from tests.bench.results_factory import measurement


def test_every_set_has_cases() -> None:
    """Each set of runs that can be asked for has cases."""
    assert CASES.keys() == SUITES.keys()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}: {case.name}")
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_figures(case: Case) -> None:
    """The figures of each case can be taken from measurements of its runs."""
    baselines = [measurement()] if case.baseline else []
    measured = [Measured(measurement(back_seconds=3.0), baselines) for _ in case.runs]

    for figure in case.figures:
        figure.value(measured)


@pytest.mark.parametrize(
    ("most", "least", "reached"),
    [(5, None, True), (4, None, False), (None, 5, True), (None, 6, False), (None, None, None)],
)
def test_limits(most: float | None, least: float | None, reached: bool | None) -> None:  # noqa: FBT001 -- pytest gives it
    """A limit is reached where the value is not beyond it."""
    figure = Figure("five", lambda _measured: 5.0, "{:.0f}", most=most, least=least)

    assert figure.reached([]) is reached


def test_case_names_the_figures_that_are_missed() -> None:
    """Those within their limits, without one, and not measured are not named."""
    names = ("within", "beyond", "free", "unknown")
    limits = (6.0, 4.0, None, 4.0)
    values = (5.0, 5.0, 5.0, None)
    figures = tuple(
        Figure(name, lambda _measured, value=value: value, "{:.0f}", most=most)  # type: ignore[misc]
        for name, most, value in zip(names, limits, values, strict=True)
    )

    assert Case("four", (), figures).missed([]) == ["beyond"]


def test_nothing_measured() -> None:
    """What could not be measured is neither reached nor missed."""
    assert Figure("none", lambda _measured: None, "{:.0f}", most=1).reached([]) is None


def test_options() -> None:
    """Options go before a scenario's own numbers, and the affected stay the same share."""
    storm = SCENARIOS["storm"].with_options({"connections": 210, "seconds": 3.0})
    (run,) = storm.runs

    assert (run.connections, run.affected, run.seconds) == (210, 200, 3.0)


def test_events() -> None:
    """`--events` brings the channels that the events have."""
    (run,) = SCENARIOS["steady"].with_options({"events": True, "deflate": True}).runs

    assert (run.events, run.deflate, run.workload) == (True, True, EVENTS)


def test_clients_of_a_crowd() -> None:
    """`--clients` says how many are cut off; the others stay as many."""
    (run,) = SCENARIOS["crowd"].with_options({"clients": 12_000, "away": 5}).runs

    assert (run.connections, run.affected, run.away) == (12_200, 12_000, 5)


def test_options_that_would_change_the_meaning() -> None:
    """A run about nobody, or about silence, stays one."""
    nobody, idle = SCENARIOS["idle"].with_options({"connections": 7, "rate": 5.0}).runs

    assert (nobody.connections, nobody.rate) == (0, 0)
    assert (idle.connections, idle.rate) == (7, 0)


def test_labels() -> None:
    """Runs of a scenario can be told apart."""
    for scenario in SCENARIOS.values():
        labels = [run.label for run in scenario.runs]
        assert len(set(labels)) == len(labels)


def test_everything_fits() -> None:
    """No run has more disturbed connections than connections."""
    runs: list[Run] = [run for cases in CASES.values() for case in cases for run in case.runs]

    assert all(run.affected <= run.connections for run in runs)
