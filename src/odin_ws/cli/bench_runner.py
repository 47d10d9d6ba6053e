"""Runs the scenarios or the suite that `odin-ws bench` names, and writes the results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any, Final

import attrs
import orjson
import trio

from odin_ws.bench import plot
from odin_ws.bench.cases import Case, Measured
from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.options import Options
from odin_ws.bench.suite import cases_of
from odin_ws.bench.testbed import open_testbed
from odin_ws.bench.workload import Run, Scenario
from odin_ws.cli.bench_display import open_progress, print_cases, print_problems, print_runs
from odin_ws.cli.command_runner import CommandFailed, write_stderr
from odin_ws.cli.signals import cancel_on_signal
from odin_ws.cli.standard_streams import write_all
from odin_ws.exception_groups import leaves

__all__ = ["Outputs", "run_scenario", "run_suite"]

_STDOUT: Final = 1


@attrs.frozen
class Outputs:
    """Files for figures and pictures besides the table; None for no file."""

    json: IO[bytes] | None
    plot: IO[bytes] | None


async def run_scenario(
    name: str,
    scenario: Scenario,
    options: Options,
    *,
    baseline: bool,
    outputs: Outputs,
) -> int:
    """Run a scenario; returns the exit status.

    Raises:
        CommandFailed: the scenario could not be run.
    """
    measured = await _measure(options, [(run, baseline) for run in scenario.runs])
    if len(measured) < len(scenario.runs):
        return 1
    return _show(measured, partial(print_runs, name, measured), {"scenario": name}, outputs)


async def run_suite(name: str, options: Options, *, only: Sequence[str], outputs: Outputs) -> int:
    """Run the cases of a suite, or those whose names contain a text of `only`.

    Returns the exit status, which is also 1 if a figure misses its limit.

    Raises:
        CommandFailed: there is no such case, or the cases could not be run.
    """
    try:
        cases = cases_of(name, only)
    except BenchFailed as error:
        raise CommandFailed(str(error)) from error
    wanted = [(run, case.baseline) for case in cases for run in case.runs]
    measured = await _measure(options, wanted)
    if len(measured) < len(wanted):
        return 1
    remaining = iter(measured)
    by_case = [(case, [next(remaining) for _ in case.runs]) for case in cases]
    about = {"scenario": name, "cases": [_figures(case, found) for case, found in by_case]}
    status = _show(measured, partial(print_cases, by_case), about, outputs)
    missed = [f"{case.name}: {name}" for case, found in by_case for name in case.missed(found)]
    for line in missed:
        write_stderr(f"not reached: {line}", fg="red")
    return 1 if missed else status


async def _measure(options: Options, wanted: Sequence[tuple[Run, bool]]) -> list[Measured]:
    """Measure runs, with or without the baseline each; a signal ends the list early."""
    if options.cores.others:
        # Child processes inherit this affinity; the server gets its own.
        os.sched_setaffinity(0, options.cores.others)
    measured = []
    try:
        with open_progress() as progress:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
                async with open_testbed(options, progress) as session:
                    for run, baseline in wanted:
                        measured.append(await session.measure(run, baseline=baseline))
                nursery.cancel_scope.cancel()
    except* BenchFailed as group:
        raise CommandFailed(str(next(leaves(group)))) from group
    if len(measured) < len(wanted):
        write_stderr("interrupted", fg="red")
    return measured


def _show(
    measured: Sequence[Measured],
    print_table: Callable[[], None],
    about: Mapping[str, Any],
    outputs: Outputs,
) -> int:
    runs = [case.server for case in measured]
    baselines = [baseline for case in measured for baseline in case.baselines]
    # If the figures or the picture go to stdout, nothing else does.
    if all(output is None or output.fileno() != _STDOUT for output in (outputs.json, outputs.plot)):
        print_table()
    print_problems(runs)
    if outputs.json is not None:
        everything = {**about, "runs": [run.to_json() for run in (*runs, *baselines)]}
        write_all(outputs.json, orjson.dumps(everything, option=orjson.OPT_INDENT_2) + b"\n")
    if outputs.plot is not None:
        write_all(outputs.plot, plot.draw([*runs, *baselines]))
    return 1 if any(run.failed for run in runs) else 0


def _figures(case: Case, measured: Sequence[Measured]) -> dict[str, Any]:
    return {
        "case": case.name,
        "figures": [
            {
                "name": figure.name,
                "value": figure.value(measured),
                "most": figure.most,
                "least": figure.least,
                "reached": figure.reached(measured),
            }
            for figure in case.figures
        ],
    }
