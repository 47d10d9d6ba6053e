"""`odin-ws bench`: how much a server delivers, how fast, and at what cost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
import orjson
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.options import Options
from odin_ws.bench.scenarios import SCENARIOS, Scenario
from odin_ws.bench.target import Cores, Target
from odin_ws.cli.running import CommandFailed, cancel_on_signal, leaves, run, say
from odin_ws.cli.tables import print_table

if TYPE_CHECKING:
    from odin_ws.bench.session import Measured

__all__ = ["bench"]

# The extra `bench`: what it is for is too much for a server.
_LIBRARIES: Final = ("numba", "numpy", "confluent_kafka", "pygal")

_NUMBERS: Final = (
    "connections",
    "rate",
    "seconds",
    "warmup",
    "broadcast_rate",
    "connect_rate",
    "record_bytes",
)

_POSITIVE: Final = click.FloatRange(0, min_open=True)


def _read_server(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, int, str] | None:
    """Host, port and path of a WebSocket URL."""
    if value is None:
        return None
    url = urlsplit(value)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme != "ws" or not url.hostname or port is None:
        raise click.BadParameter(f"{value}: ws://HOST:PORT/ws is allowed")
    return url.hostname, port, url.path or "/ws"


def _read_settings(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    """NAME=VALUE by name."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value}: NAME=VALUE is allowed")
    return dict(value.split("=", 1) for value in values)


def _help() -> str:
    width = max(map(len, SCENARIOS))
    lines = "\n".join(f"{name:<{width}}  {one.help}" for name, one in SCENARIOS.items())
    return (
        "Measure a server under load, and check every message that it sends.\n\n"
        "Starts a broker, a publisher, a server and the load on this machine; the server has a "
        "core to itself. The exit status is 1 when a message was lost, doubled or out of order, "
        f"or somebody was not served.\n\n\b\n{lines}"
    )


@click.command(short_help="Measure a server under load.", help=_help())
@click.argument("scenario", type=click.Choice(list(SCENARIOS)))
@click.option("--connections", type=click.IntRange(1, 1_000_000), help="How many.")
@click.option("--rate", type=_POSITIVE, help="Records published a second.")
@click.option("--seconds", type=_POSITIVE, help="How long to measure.")
@click.option("--warmup", type=click.FloatRange(0), help="Seconds before that.")
@click.option("--broadcast-rate", type=click.FloatRange(0), help="WS_MAX_BROADCAST_RATE.")
@click.option("--connect-rate", type=_POSITIVE, help="Connections tried a second.")
@click.option("--record-bytes", type=click.IntRange(120, 16_000), help="Size of a record's value.")
@click.option("--floor", is_flag=True, help="Measure a bare send loop in C too, and compare.")
@click.option("--kafka", metavar="HOST:PORT", help="A broker that runs already.")
@click.option(
    "--server", metavar="URL", callback=_read_server, help="A server that runs already; see --pid."
)
@click.option("--pid", "pids", type=int, multiple=True, help="A process of that server.")
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_read_settings,
    help="A setting of the server.",
)
@click.option(
    "--loaders",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that hold the connections.",
)
@click.option("--pin/--no-pin", default=True, help="Give the server a core of its own.")
@click.option(
    "--kafka-libs",
    "libs",
    type=click.Path(path_type=Path),
    default=Path("tests/kafka/libs"),
    show_default=True,
    help="Apache Kafka's jars; without them or Java the embedded broker is used.",
)
@click.option("--json", "json_file", type=click.File("wb"), help="Write all figures; - for stdout.")
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Draw latency and throughput (SVG).",
)
def bench(
    scenario: str,
    server: tuple[str, int, str] | None,
    pids: tuple[int, ...],
    json_file: IO[bytes] | None,
    plot_file: Path | None,
    *,
    floor: bool,
    pin: bool,
    **options: Any,
) -> None:
    """See `_help`."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise CommandFailed(f"{', '.join(missing)} is missing: pip install 'odin-ws[bench]'")
    if server is not None and (options["kafka"] is None or not pids):
        raise click.UsageError("--server needs --kafka, which it reads from, and --pid")
    numbers = {name: options.pop(name) for name in _NUMBERS}
    chosen = SCENARIOS[scenario].with_options(
        {name: value for name, value in numbers.items() if value is not None}
    )
    how = Options(
        target=None if server is None else Target(*server, pids),
        cores=Cores.split() if pin and server is None else Cores(),
        **options,
    )
    sys.exit(run(partial(_bench, scenario, chosen, how, floor, json_file, plot_file)))


async def _bench(
    name: str,
    scenario: Scenario,
    options: Options,
    floor: bool,  # noqa: FBT001 -- handed on by `partial`
    json_file: IO[bytes] | None,
    plot_file: Path | None,
) -> int:
    # `--help` need not wait for numba, and without it there is a clear word above.
    from odin_ws.bench.session import open_session  # noqa: PLC0415

    if options.cores.others:
        # All that is started here inherits it; the server is put elsewhere.
        os.sched_setaffinity(0, options.cores.others)
    measured = []
    try:
        with _progress() as progress:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
                async with open_session(options, progress) as session:
                    for one in scenario.runs:
                        measured.append(await session.measure(one, floor=floor))
                nursery.cancel_scope.cancel()
    except* BenchFailed as group:
        raise CommandFailed(str(next(leaves(group)))) from group
    if len(measured) < len(scenario.runs):
        say("interrupted", fg="red")
        return 1
    return _show(name, measured, json_file, plot_file)


def _show(
    name: str, measured: Sequence[Measured], json_file: IO[bytes] | None, plot_file: Path | None
) -> int:
    from odin_ws.bench import report  # noqa: PLC0415 -- as above

    runs = [one.server for one in measured]
    floors = [floor for one in measured for floor in one.floors]
    labels = [one.label for one in (*runs, *floors)]
    rows = report.rows(runs, floors)
    if json_file is None or json_file is not sys.stdout.buffer:
        print_table([name, *labels], rows, [""] * len(rows))
    for one in runs:
        for line in report.warnings(one):
            say(line, fg="yellow")
        for line in report.problems(one):
            say(line, fg="red")
    if json_file is not None:
        everything = {"scenario": name, "runs": [one.to_json() for one in (*runs, *floors)]}
        json_file.write(orjson.dumps(everything, option=orjson.OPT_INDENT_2) + b"\n")
    return 1 if any(one.failed for one in runs) else 0


@contextmanager
def _progress() -> Iterator[Callable[[str, float | None], None]]:
    """A bar on a terminal, a line for each step in a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        said = ""

        def tell(what: str, _share: float | None) -> None:
            nonlocal said
            if what != said:
                said = what
                say(what)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Drawn when we say so: rich's own refreshing would be a thread.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(what: str, share: float | None) -> None:
            bar.update(task, description=what, completed=share or 0.0, refresh=True)

        yield show
