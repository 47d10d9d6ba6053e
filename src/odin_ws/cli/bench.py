"""`odin-ws bench`: measures throughput, latency and CPU cost of a server under load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.options import Options
from odin_ws.bench.server import Cores, Target
from odin_ws.bench.workload import SCENARIOS, SUITES
from odin_ws.catalogue import Catalogue, CatalogueError, default_catalogue, load_catalogue
from odin_ws.cli.command_runner import CommandFailed, run
from odin_ws.cli.environment import exit_with_usage_error
from odin_ws.cli.examples import examples
from odin_ws.settings.text_file import UnreadableFile, read_text_file

__all__ = ["bench"]

# Packages of the extra `bench`, which a server does not need.
_LIBRARIES: Final = ("numba", "numpy", "confluent_kafka", "pygal")

_NUMBERS: Final = (
    "connections",
    "rate",
    "seconds",
    "warmup",
    "broadcast_rate",
    "connect_rate",
    "connect_grace",
    "record_bytes",
    "away",
    "clients",
    "frames",
    "deflate",
    "events",
)

# Opened before the measurement, so that an unwritable file fails at once.
_OUTPUT_FILE: Final = click.File("wb", lazy=False)

_POSITIVE: Final = click.FloatRange(0, min_open=True)


def _read_server(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, int, str] | None:
    """Return host, port and path of a WebSocket URL."""
    if value is None:
        return None
    url = urlsplit(value)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme != "ws" or not url.hostname or port is None:
        raise click.BadParameter(f"{value}: must be ws://HOST:PORT/ws")
    return url.hostname, port, url.path or "/ws"


def _read_settings(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    """Return the values of NAME=VALUE options by name."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value}: must be NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


def _help() -> str:
    helps = {**{name: scenario.help for name, scenario in SCENARIOS.items()}, **SUITES}
    width = max(map(len, helps))
    lines = "\n".join(f"{name:<{width}}  {text}" for name, text in helps.items())
    return (
        "Measure a server under load and check every message that it sends.\n\n"
        "Starts a broker, a publisher, a server and load processes on this machine; the server "
        "gets its own core. Exit status 1 if a message was lost, duplicated or out of order, or "
        "a client could not connect; for `short` and `all` also if a figure misses its limit."
        f"\n\n\b\n{lines}"
    )


@click.command(
    short_help="Measure a server under load.",
    help=_help(),
    epilog=examples(
        ("1,000 subscribers of one channel, 100 records per second", "odin-ws bench steady"),
        (
            "12,000 subscribers, compared with a bare send loop in C",
            "odin-ws bench steady --connections 12000 --rate 20 --baseline",
        ),
        (
            "Two cases of a suite, with their limits",
            "odin-ws bench all --case storm --case '1,000 x 100/s'",
        ),
        ("Figures as JSON, latency as a picture", "odin-ws bench storm --json - --plot s.svg"),
        (
            "Events of another domain",
            "odin-ws bench bytes --catalogue examples/scores.toml",
        ),
        (
            "A running server, with the broker that it reads from",
            "odin-ws bench steady --server ws://HOST:3002/ws --kafka HOST:9092 --pid 4711",
        ),
    ),
)
@click.argument("scenario", type=click.Choice([*SCENARIOS, *SUITES]))
@click.option("--connections", type=click.IntRange(1, 1_000_000), help="Number of connections.")
@click.option("--rate", type=_POSITIVE, help="Records published per second.")
@click.option("--seconds", type=_POSITIVE, help="Duration of the measurement, in seconds.")
@click.option("--warmup", type=click.FloatRange(0), help="Seconds of load before measuring.")
@click.option(
    "--broadcast-rate", type=click.FloatRange(0), help="The server's WS_MAX_BROADCAST_RATE."
)
@click.option("--connect-rate", type=_POSITIVE, help="Connection attempts per second.")
@click.option(
    "--connect-grace",
    type=_POSITIVE,
    help="Seconds that connecting may take beyond connections / connect rate.",
)
@click.option("--record-bytes", type=click.IntRange(120, 16_000), help="Bytes of a record's value.")
@click.option(
    "--clients",
    type=click.IntRange(1, 1_000_000),
    help="Number of connections that are cut or stop reading.",
)
@click.option(
    "--away", type=click.IntRange(1), help="Records published while `crowd` is disconnected."
)
@click.option(
    "--frames", type=click.Choice(["single", "batch"]), help="Frame format that clients request."
)
@click.option("--deflate/--no-deflate", default=None, help="Let clients offer permessage-deflate.")
@click.option("--events/--no-events", default=None, help="Publish the events of `odin-ws publish`.")
@click.option(
    "--case",
    "only",
    metavar="TEXT",
    multiple=True,
    help="Run only the cases of a suite whose names contain TEXT; repeatable.",
)
@click.option("--baseline", is_flag=True, help="Also measure a bare send loop in C.")
@click.option("--kafka", metavar="HOST:PORT", help="Use this running broker.")
@click.option(
    "--server", metavar="URL", callback=_read_server, help="Measure this running server; see --pid."
)
@click.option(
    "--pid", "pids", type=int, multiple=True, help="A process of the running server; repeatable."
)
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_read_settings,
    help="A setting of the server; repeatable.",
)
@click.option(
    "--catalogue",
    "catalogue_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Topics of another domain.",
)
@click.option(
    "--load-processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that hold the connections.",
)
@click.option("--pin/--no-pin", default=True, help="Reserve a core for the server.")
@click.option(
    "--kafka-libs",
    "libs",
    type=click.Path(path_type=Path),
    default=Path("tests/apache_kafka/libs"),
    show_default=True,
    help="Apache Kafka's jars; without jars or Java, the embedded broker.",
)
@click.option("--json", "json_file", type=_OUTPUT_FILE, help="Write all figures; - for stdout.")
@click.option(
    "--plot",
    "plot_file",
    type=_OUTPUT_FILE,
    help="Draw latency and throughput as SVG; - for stdout.",
)
def bench(
    scenario: str,
    server: tuple[str, int, str] | None,
    pids: tuple[int, ...],
    only: tuple[str, ...],
    **options: Any,
) -> None:
    """Run a scenario or a suite. `_help` has the help text."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise CommandFailed(f"{', '.join(missing)} is missing: pip install 'odin-ws[bench]'")
    if server is not None and (options["kafka"] is None or not pids):
        raise click.UsageError(
            "--server requires --pid, and --kafka with the broker that the server reads"
        )
    numbers = {name: options.pop(name) for name in _NUMBERS}
    given = {name: value for name, value in numbers.items() if value is not None}
    if {"clients", "connections"} <= given.keys():
        raise click.UsageError("--clients and --connections cannot be combined")
    if scenario in SUITES and given:
        raise click.UsageError(f"{scenario} is a suite: the numbers of its runs are fixed")
    if scenario not in SUITES and only:
        raise click.UsageError(f"{scenario} has no cases: only suites do")
    catalogue = _read_catalogue(options["catalogue_file"])
    if scenario in SUITES and options["catalogue_file"] is not None:
        raise click.UsageError(
            f"{scenario} is a suite of Odin's catalogue: --catalogue is not allowed"
        )
    pin, baseline = options.pop("pin"), options.pop("baseline")
    json_file, plot_file = options.pop("json_file"), options.pop("plot_file")
    how = Options(
        target=None if server is None else Target(*server, pids),
        cores=_cores(pids, pin=pin),
        **options,
    )
    # Imported here: `--help` need not load numba, and a missing numba gets the message above.
    from odin_ws.cli.bench_runner import Outputs, run_scenario, run_suite  # noqa: PLC0415

    outputs = Outputs(json_file, plot_file)
    if scenario in SUITES:
        sys.exit(run(partial(run_suite, scenario, how, only=only, outputs=outputs)))
    chosen = SCENARIOS[scenario].with_options(given).within(catalogue)
    sys.exit(run(partial(run_scenario, scenario, chosen, how, baseline=baseline, outputs=outputs)))


def _read_catalogue(file: Path | None) -> Catalogue:
    if file is None:
        return default_catalogue()
    try:
        catalogue = load_catalogue(read_text_file(file))
    except (CatalogueError, UnreadableFile) as error:
        exit_with_usage_error(f"--catalogue {file}: {error}")
    if not catalogue.event_types:
        exit_with_usage_error(f"--catalogue {file}: no topic has event types to generate")
    return catalogue


def _cores(pids: Sequence[int], *, pin: bool) -> Cores:
    if not pin:
        return Cores()
    try:
        return Cores.beside(pids) if pids else Cores.split()
    except BenchFailed as error:
        raise CommandFailed(str(error)) from error
