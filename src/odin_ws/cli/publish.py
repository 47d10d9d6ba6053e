"""`odin-ws publish`: publishes generated events, for trials and measurements."""

from __future__ import annotations

import random
import sys
from functools import partial
from typing import Final, NoReturn, Protocol

import attrs
import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from odin_ws.catalogue import Catalogue
from odin_ws.cli.command_runner import CommandFailed, run, write_line, write_stderr
from odin_ws.cli.environment import read_event_catalogue, read_kafka_security, read_settings
from odin_ws.cli.event_publisher import Pace, TokenCount, choose_tokens, publish_events
from odin_ws.cli.examples import examples
from odin_ws.cli.kafka_clients import Producer, open_admin, open_producer, silence_aiokafka
from odin_ws.cli.setting_options import catalogue_option, overrides
from odin_ws.cli.signals import cancel_on_signal
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.protocol.json_text import dump_json
from odin_ws.testing.events import EventGenerator

__all__ = ["publish"]

# Seconds between two reports: of the progress bar, of lines in a log, of JSON for a program.
_BAR_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 5
_JSON_SECONDS: Final = 1


@click.command(
    short_help="Publish generated events to KAFKA_BROKERS.",
    epilog=examples(
        ("50 events per second until Ctrl-C", "odin-ws publish"),
        (
            "To another cluster, 1,000 per second for a minute",
            "KAFKA_BROKERS=kafka:9092 odin-ws publish --rate 1000 --seconds 60",
        ),
        ("The same events in each run", "odin-ws publish --tokens BTC,ODIN --seed 1"),
        ("Another domain", "odin-ws publish --catalogue examples/scores.toml"),
        ("For a program", "odin-ws publish --seconds 60 --json"),
    ),
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=50,
    show_default=True,
    help="Events per second over all event types.",
)
@click.option(
    "--tokens",
    type=TokenCount(),
    help="Number of generated tokens, or their names; default: the catalogue's, else 6.",
)
@catalogue_option
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Stop after this time; default: at Ctrl-C.",
)
@click.option("--seed", type=int, help="Generate the same events in each run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def publish(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    rate: float,
    tokens: int | tuple[str, ...] | None,
    catalogue_file: str | None,
    seconds: float | None,
    seed: int | None,
    as_json: bool,  # noqa: FBT001 -- a flag
) -> None:
    """Publish generated events of every type to KAFKA_BROKERS, keyed by token.

    Keys and values have the formats that the catalogue gives each topic, and events the fields of
    its section [demo].
    `data.pub_us` of each event is its publish time in epoch microseconds.
    The topics must exist: `odin-ws topics create`.
    """
    silence_aiokafka()
    settings = read_settings(write_stderr, overrides(WS_CATALOGUE=catalogue_file))
    catalogue = read_event_catalogue(settings)
    if seed is None:
        seed = random.getrandbits(32)
    events = EventGenerator(choose_tokens(tokens, catalogue), seed, catalogue)
    pace = Pace(rate, None if seconds is None else max(1, round(rate * seconds)))
    report = _JsonReport(pace) if as_json else _TextReport(pace)
    security = read_kafka_security(settings)
    sys.exit(run(partial(_publish, security, catalogue, events, pace, report)))


async def _publish(
    security: KafkaSecurity,
    catalogue: Catalogue,
    events: EventGenerator,
    pace: Pace,
    report: _Report,
) -> int:
    topics = catalogue.topics.keys()
    async with open_admin(security) as admin:
        missing = topics - await admin.existing(topics)
    if missing:
        raise CommandFailed(
            f"topics do not exist: {', '.join(sorted(missing))}; create them: odin-ws topics create"
        )
    async with open_producer(security, topics) as producer:
        began = trio.current_time()
        try:
            await _until_done_or_stopped(producer, events, pace, report)
            await producer.flush()
        finally:
            report.end(producer, trio.current_time() - began)
    return 1 if producer.failed else 0


async def _until_done_or_stopped(
    producer: Producer, events: EventGenerator, pace: Pace, report: _Report
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
        nursery.start_soon(report.show_progress, producer)
        await publish_events(producer, events, pace)
        nursery.cancel_scope.cancel()


class _Report(Protocol):
    """Reports the events that a producer has published so far, and in all."""

    async def show_progress(self, producer: Producer) -> None:
        """Report the progress at an interval, until it is cancelled."""

    def end(self, producer: Producer, seconds: float) -> None:
        """Report the number of events published in `seconds`."""


@attrs.frozen
class _TextReport:
    """Writes to standard error: a bar on a terminal, otherwise lines."""

    pace: Pace

    async def show_progress(self, producer: Producer) -> None:
        console = Console(stderr=True)
        if console.is_terminal:
            await self._show_bar(producer, console)
        total = "" if self.pace.total is None else f" of {self.pace.total}"
        while True:
            await trio.sleep(_LINE_SECONDS)
            write_stderr(f"published {producer.delivered}{total} events{_failed(producer)}")

    async def _show_bar(self, producer: Producer, console: Console) -> NoReturn:
        columns = (
            TextColumn("publishing"),
            BarColumn(),
            TextColumn("{task.completed} events, {task.fields[rate]:.0f}/s{task.fields[failed]}"),
            TimeElapsedColumn(),
        )
        began = trio.current_time()
        with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
            task = progress.add_task("", total=self.pace.total, rate=0.0, failed="")
            while True:
                await trio.sleep(_BAR_SECONDS)
                progress.update(
                    task,
                    completed=producer.delivered,
                    rate=producer.delivered / (trio.current_time() - began),
                    failed=_failed(producer),
                    refresh=True,
                )

    def end(self, producer: Producer, seconds: float) -> None:
        rate = producer.delivered / max(seconds, 1e-6)
        write_stderr(f"published {producer.delivered} events in {seconds:.1f} s ({rate:.0f}/s)")
        if lost := producer.sent - producer.delivered:
            why = f": {producer.error}" if producer.error else ""
            write_stderr(f"the broker did not acknowledge {lost} events{why}", fg="red")


@attrs.frozen
class _JsonReport:
    """Writes to standard output: an object every second, and the result; `type` names the kind."""

    pace: Pace

    async def show_progress(self, producer: Producer) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(_JSON_SECONDS)
            self._write("progress", producer, trio.current_time() - began)

    def end(self, producer: Producer, seconds: float) -> None:
        self._write("result", producer, seconds)

    def _write(self, kind: str, producer: Producer, seconds: float) -> None:
        document = {
            "type": kind,
            "published": producer.delivered,
            "not_acknowledged": producer.sent - producer.delivered,
            "total": self.pace.total,
            "seconds": round(seconds, 3),
            "events_per_second": round(producer.delivered / max(seconds, 1e-6), 1),
            "error": producer.error or None,
        }
        write_line(dump_json(document).decode())


def _failed(producer: Producer) -> str:
    return f", {producer.failed} failed" if producer.failed else ""
