"""`odin-ws bench`: how much a server delivers, how fast, and at what cost."""

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
from odin_ws.bench.scenarios import SCENARIOS, SUITES
from odin_ws.bench.target import Cores, Target
from odin_ws.cli.command_runner import CommandFailed, run

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
    "connect_patience",
    "record_bytes",
    "away",
    "clients",
    "frames",
    "deflate",
    "events",
)

# Opened before anything is measured, so that a name that cannot be written is said before that.
_WRITTEN: Final = click.File("wb", lazy=False)

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
    helps = {**{name: one.help for name, one in SCENARIOS.items()}, **SUITES}
    width = max(map(len, helps))
    lines = "\n".join(f"{name:<{width}}  {text}" for name, text in helps.items())
    return (
        "Measure a server under load, and check every message that it sends.\n\n"
        "Starts a broker, a publisher, a server and the load on this machine; the server has a "
        "core to itself. The exit status is 1 when a message was lost, doubled or out of order, "
        "or somebody was not served, and of short and all also when a figure is beyond its limit."
        f"\n\n\b\n{lines}"
    )


@click.command(short_help="Measure a server under load.", help=_help())
@click.argument("scenario", type=click.Choice([*SCENARIOS, *SUITES]))
@click.option("--connections", type=click.IntRange(1, 1_000_000), help="Number of connections.")
@click.option("--rate", type=_POSITIVE, help="Records published a second.")
@click.option("--seconds", type=_POSITIVE, help="How long to measure.")
@click.option("--warmup", type=click.FloatRange(0), help="Seconds of load before the measurement.")
@click.option("--broadcast-rate", type=click.FloatRange(0), help="WS_MAX_BROADCAST_RATE.")
@click.option("--connect-rate", type=_POSITIVE, help="Connections tried a second.")
@click.option("--connect-patience", type=_POSITIVE, help="Seconds that connecting may take longer.")
@click.option("--record-bytes", type=click.IntRange(120, 16_000), help="Size of a record's value.")
@click.option(
    "--clients",
    type=click.IntRange(1, 1_000_000),
    help="Number of connections that are cut off or stall.",
)
@click.option("--away", type=click.IntRange(1), help="Records that a crowd is away for.")
@click.option("--frames", type=click.Choice(["single", "batch"]), help="What clients ask for.")
@click.option("--deflate/--no-deflate", default=None, help="Whether clients offer to inflate.")
@click.option("--events/--no-events", default=None, help="Publish the demo's events.")
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
    default=Path("tests/apache_kafka/libs"),
    show_default=True,
    help="Apache Kafka's jars; without them or Java the embedded broker is used.",
)
@click.option("--json", "json_file", type=_WRITTEN, help="Write all figures; - for stdout.")
@click.option(
    "--plot", "plot_file", type=_WRITTEN, help="Draw latency and throughput (SVG); - for stdout."
)
def bench(
    scenario: str,
    server: tuple[str, int, str] | None,
    pids: tuple[int, ...],
    **options: Any,
) -> None:
    """See `_help`."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise CommandFailed(f"{', '.join(missing)} is missing: pip install 'odin-ws[bench]'")
    if server is not None and (options["kafka"] is None or not pids):
        raise click.UsageError("--server needs --kafka, which it reads from, and --pid")
    numbers = {name: options.pop(name) for name in _NUMBERS}
    given = {name: value for name, value in numbers.items() if value is not None}
    if {"clients", "connections"} <= given.keys():
        raise click.UsageError("--clients comes with those that stay, --connections with all")
    if scenario in SUITES and given:
        raise click.UsageError(f"{scenario} is a set of runs with numbers of their own")
    pin, baseline = options.pop("pin"), options.pop("floor")
    json_file, plot_file = options.pop("json_file"), options.pop("plot_file")
    how = Options(
        target=None if server is None else Target(*server, pids),
        cores=_cores(pids, pin=pin),
        **options,
    )
    # `--help` need not wait for numba, and without it there is a clear word above.
    from odin_ws.cli.bench_runner import Outputs, run_scenario, run_suite  # noqa: PLC0415

    outputs = Outputs(json_file, plot_file)
    if scenario in SUITES:
        sys.exit(run(partial(run_suite, scenario, how, outputs=outputs)))
    chosen = SCENARIOS[scenario].with_options(given)
    sys.exit(run(partial(run_scenario, scenario, chosen, how, baseline=baseline, outputs=outputs)))


def _cores(pids: Sequence[int], *, pin: bool) -> Cores:
    if not pin:
        return Cores()
    try:
        return Cores.beside(pids) if pids else Cores.split()
    except BenchFailed as error:
        raise CommandFailed(str(error)) from error
