"""`odin-ws conformance`: checks a client of the wire protocol, in any language."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from odin_ws.cli.command_runner import (
    CommandFailed,
    InvalidConfiguration,
    run,
    write_line,
    write_stderr,
)
from odin_ws.cli.examples import examples
from odin_ws.exception_groups import leaves

if TYPE_CHECKING:
    from odin_ws.testing.conformance import Case, Outcome

__all__ = ["conformance"]


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        ("List the cases", "odin-ws conformance --list"),
        ("Check a client written in JavaScript", "odin-ws conformance node client.js"),
        (
            "One case, and the messages that the client delivers",
            "odin-ws conformance --case resume --deliveries node client.js",
        ),
    ),
)
@click.option(
    "--case", "cases", multiple=True, metavar="NAME", help="Run only this case; repeatable."
)
@click.option("--list", "listed", is_flag=True, help="List the cases.")
@click.option(
    "--deliveries",
    is_flag=True,
    help="Also compare the messages that the client delivers: it writes each to standard output "
    "as a line of JSON with channel and pos, and exits after close 1000.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Also run the cases in which the application subscribes and unsubscribes on the live "
    "connection: the client reads each request from standard input as a line of JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
@click.option(
    "--step-seconds",
    type=click.FloatRange(0, min_open=True),
    default=15,
    show_default=True,
    help="Seconds in which the client must do each step.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def conformance(  # noqa: PLR0913 -- click gives each option
    *,
    cases: Sequence[str],
    listed: bool,
    deliveries: bool,
    live: bool,
    as_json: bool,
    step_seconds: float,
    command: Sequence[str],
) -> None:
    """Check a client of the wire protocol, in any language.

    Simulates connection losses, restarts, duplicates and server events. Each case starts a new
    process: COMMAND with two more arguments, the URL to connect to and the subscription as JSON.
    Prints one line per case, with what the client did wrong. Exit status 1 if a case failed.
    """
    if find_spec("trio_websocket") is None:
        raise InvalidConfiguration("conformance needs the extra `testing`: odin-ws[testing]")
    if listed:
        _list(as_json=as_json)
        return
    if not command:
        raise click.UsageError("COMMAND is missing: the command line that starts the client")
    play = partial(_play, command, deliveries=deliveries, live=live, step_seconds=step_seconds)
    sys.exit(run(partial(_check, play, cases, as_json=as_json)))


def _list(*, as_json: bool) -> None:
    from odin_ws.testing.conformance import read_cases  # noqa: PLC0415 -- an extra

    found = read_cases()
    if as_json:
        write_line(
            json.dumps([{"case": case.name, "about": case.about} for case in found], indent=2)
        )
        return
    width = max(len(case.name) for case in found)
    for case in found:
        write_line(f"{case.name:<{width}}  {case.about}")


async def _check(
    play: Callable[[Case], Awaitable[Outcome]], names: Sequence[str], *, as_json: bool
) -> int:
    from odin_ws.testing.conformance import Result, read_cases  # noqa: PLC0415 -- an extra

    cases = {case.name: case for case in read_cases()}
    if unknown := [name for name in names if name not in cases]:
        raise InvalidConfiguration(f"--case {unknown[0]}: must be one of {', '.join(cases)}")
    outcomes: list[Outcome] = []
    for case in [cases[name] for name in names] or cases.values():
        outcomes.append(await play(case))
        if not as_json:
            write_line(_line(outcomes[-1]))
    failed = sum(outcome.result is Result.FAILED for outcome in outcomes)
    if as_json:
        write_line(json.dumps(_document(outcomes), indent=2))
    else:
        write_stderr(f"{failed} of {len(outcomes)} cases failed")
    return 1 if failed else 0


async def _play(
    command: Sequence[str], case: Case, *, deliveries: bool, live: bool, step_seconds: float
) -> Outcome:
    from odin_ws.testing.conformance import (  # noqa: PLC0415 -- an extra
        Outcome,
        Result,
        play_case,
        run_program,
    )

    if case.is_live and not live:
        return Outcome(case, Result.SKIPPED, "the client is run without --live")
    client = partial(run_program, command, obeys=live)
    try:
        return await play_case(case, client, deliveries=deliveries, step_seconds=step_seconds)
    except* OSError as group:
        error = next(leaves(group))
        raise CommandFailed(f"{command[0]}: {error.strerror or error}") from group


def _line(outcome: Outcome) -> str:
    why = f"  {outcome.why}" if outcome.why else ""
    return f"{outcome.result:<7}  {outcome.case.name}{why}"


def _document(outcomes: Sequence[Outcome]) -> dict[str, object]:
    counts = {
        result: sum(outcome.result == result for outcome in outcomes)
        for result in ("ok", "failed", "skipped")
    }
    cases = [
        {
            "case": outcome.case.name,
            "result": outcome.result,
            "why": outcome.why,
            "about": outcome.case.about,
        }
        for outcome in outcomes
    ]
    return {**counts, "cases": cases}
