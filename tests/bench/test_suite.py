"""The benchmark's suites: cases, figures with limits, options."""

from __future__ import annotations

import pytest

from odin_ws.bench.cases import Case, Figure, Measured
from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.suite import CASES, cases_of
from odin_ws.bench.workload import EVENTS, SCENARIOS, SUITES, Run
from tests.bench.results_factory import measurement


def test_each_suite_has_cases() -> None:
    """CASES and SUITES have the same names."""
    assert CASES.keys() == SUITES.keys()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}: {case.name}")
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_figures_can_be_calculated_from_measurements(case: Case) -> None:
    """Each figure of each case has a value."""
    baselines = [measurement()] if case.baseline else []
    measured = [Measured(measurement(back_seconds=3.0), baselines) for _ in case.runs]

    for figure in case.figures:
        figure.value(measured)


@pytest.mark.parametrize(
    ("most", "least", "reached"),
    [(5, None, True), (4, None, False), (None, 5, True), (None, 6, False), (None, None, None)],
)
def test_figure_is_reached_within_its_limit(
    most: float | None,
    least: float | None,
    reached: bool | None,  # noqa: FBT001 -- pytest gives it
) -> None:
    """The limit itself is reached; without a limit the result is None."""
    figure = Figure("five", lambda _measured: 5.0, "{:.0f}", most=most, least=least)

    assert figure.reached([]) is reached


def test_case_names_missed_figures() -> None:
    """Figures within their limit, without a limit or without a value are not named."""
    names = ("within", "beyond", "free", "unknown")
    limits = (6.0, 4.0, None, 4.0)
    values = (5.0, 5.0, 5.0, None)
    figures = tuple(
        Figure(name, lambda _measured, value=value: value, "{:.0f}", most=most)  # type: ignore[misc]
        for name, most, value in zip(names, limits, values, strict=True)
    )

    assert Case("four", (), figures).missed([]) == ["beyond"]


def test_figure_without_value_is_neither_reached_nor_missed() -> None:
    """The measurement of the figure failed."""
    assert Figure("none", lambda _measured: None, "{:.0f}", most=1).reached([]) is None


def test_options_replace_numbers_of_a_scenario() -> None:
    """`affected` keeps its share of the connections."""
    storm = SCENARIOS["storm"].with_options({"connections": 210, "seconds": 3.0})
    (run,) = storm.runs

    assert (run.connections, run.affected, run.seconds) == (210, 200, 3.0)


def test_events_option_selects_workload_of_events() -> None:
    """`--events` measures Server-Sent Events, with the channels that they can have."""
    (run,) = SCENARIOS["steady"].with_options({"events": True, "deflate": True}).runs

    assert (run.events, run.deflate, run.workload) == (True, True, EVENTS)


def test_clients_option_sets_number_of_disconnected_clients() -> None:
    """The number of other connections does not change."""
    (run,) = SCENARIOS["crowd"].with_options({"clients": 12_000, "away": 5}).runs

    assert (run.connections, run.affected, run.away) == (12_200, 12_000, 5)


def test_options_keep_zero_connections_and_zero_rate() -> None:
    """A run without connections or without messages keeps its zero."""
    nobody, idle = SCENARIOS["idle"].with_options({"connections": 7, "rate": 5.0}).runs

    assert (nobody.connections, nobody.rate) == (0, 0)
    assert (idle.connections, idle.rate) == (7, 0)


def test_labels_of_a_scenario_are_different() -> None:
    """A report can tell the runs apart."""
    for scenario in SCENARIOS.values():
        labels = [run.label for run in scenario.runs]
        assert len(set(labels)) == len(labels)


def test_affected_connections_do_not_exceed_connections() -> None:
    """The limit applies to each run of each case."""
    runs: list[Run] = [run for cases in CASES.values() for case in cases for run in case.runs]

    assert all(run.affected <= run.connections for run in runs)


def test_cases_are_selected_by_a_part_of_their_name() -> None:
    """Each text may select several; without texts all cases run, in their order."""
    assert [case.name for case in cases_of("short", ["no connections", "connecting, "])] == [
        "connecting, idle",
        "connecting, 10/s to all",
        "no connections",
    ]
    assert list(cases_of("all")) == list(CASES["all"])


def test_unknown_case_is_an_error_that_lists_the_cases() -> None:
    """The error occurs even if another text selects a case."""
    with pytest.raises(BenchFailed, match="no case of short is called 'storm'") as caught:
        cases_of("short", ["no connections", "storm"])

    assert "\n  connecting, idle\n" in str(caught.value)
