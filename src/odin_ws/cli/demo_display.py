"""The output of `odin-ws demo`: a live table on a terminal, a line per second in a pipe, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from odin_ws.cli.command_runner import write_line, write_stderr
from odin_ws.cli.message_text import Line, colour
from odin_ws.cli.tally import Tally, Window
from odin_ws.protocol.json_text import dump_json

__all__ = ["Display", "open_display"]

# Seconds between two updates: a person watches a terminal, a log is read later.
_LIVE_SECONDS: Final = 0.5
_PLAIN_SECONDS: Final = 1.0


class Display(Protocol):
    """Shows a tally every `interval` seconds."""

    interval: float

    def begin(self, addresses: Mapping[str, str]) -> None:
        """Show the address of each part."""

    def show(self, tally: Tally, window: Window) -> None:
        """Show the tally so far. Raises OutputClosed if the reader of the output is gone."""

    def end(self, tally: Tally, window: Window) -> None:
        """Show the final tally; the last window is shorter than the others."""

    def note(self, text: str) -> None:
        """Show an event, such as a disconnect."""


@contextmanager
def open_display(console: Console, *, as_json: bool = False) -> Iterator[Display]:
    """Open the display for `console` (stdout): live table, lines, or JSON Lines."""
    if as_json:
        yield _Json()
        return
    if not console.is_terminal:
        yield _Plain()
        return
    # Refreshed by `show` only: rich's automatic refresh would start a thread.
    with Live(console=console, auto_refresh=False) as live:
        yield _Live(live)


class _Plain:
    interval = _PLAIN_SECONDS

    def begin(self, addresses: Mapping[str, str]) -> None:
        for name, address in addresses.items():
            write_line(f"{name:<9} {address}")

    def show(self, tally: Tally, window: Window) -> None:
        rates = "  ".join(f"{category} {rate:.0f}" for category, rate in window.by_category.items())
        write_line(
            f"{window.rate:4.0f}/s  {tally.total:6} messages  {_types(tally)}  "
            f"{_latency(window)}  {rates}"
        )

    def end(self, tally: Tally, window: Window) -> None:
        """Print nothing: the summary follows, and the rate of half a window would mislead."""

    def note(self, text: str) -> None:
        write_stderr(text)


class _Json:
    """The display in JSON Lines: one object per line, whose `type` names its kind."""

    interval = _PLAIN_SECONDS

    def begin(self, addresses: Mapping[str, str]) -> None:
        _write(
            {"type": "addresses", **{name.lower(): address for name, address in addresses.items()}}
        )

    def show(self, tally: Tally, window: Window) -> None:
        _write(
            {
                "type": "rate",
                "messages_per_second": round(window.rate, 1),
                "by_category": {name: round(rate, 1) for name, rate in window.by_category.items()},
                "latency_p50_ms": window.latency_ms and round(window.latency_ms, 1),
                "messages": tally.total,
                "event_types": tally.seen_types,
                "known_event_types": tally.known_types,
            }
        )

    def end(self, tally: Tally, window: Window) -> None:
        """Print nothing: the result follows."""

    def note(self, text: str) -> None:
        write_stderr(text)


class _Live:
    interval = _LIVE_SECONDS

    def __init__(self, live: Live) -> None:
        self._live = live

    def begin(self, addresses: Mapping[str, str]) -> None:
        for name, address in addresses.items():
            self._live.console.print(Text.assemble((f"{name:<9} ", "dim"), (address, "bold")))

    def show(self, tally: Tally, window: Window) -> None:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("category", min_width=12)
        table.add_column("msg/s", justify="right", min_width=6)
        table.add_column("total", justify="right", min_width=8)
        for category, total in tally.by_category.items():
            rate = f"{window.by_category[category]:.0f}"
            table.add_row(category, rate, str(total), style=colour(category))
        table.add_row("all", f"{window.rate:.0f}", str(tally.total), style="bold")
        about = Text(f"{_types(tally)}, {_latency(window)}", "dim")
        lines = [_text(line) for line in tally.recent]
        self._live.update(Group("", table, about, "", *lines), refresh=True)

    def end(self, tally: Tally, window: Window) -> None:
        self.show(tally, window)

    def note(self, text: str) -> None:
        self._live.console.print(Text(text, "dim"))


def _write(document: dict[str, Any]) -> None:
    write_line(dump_json(document).decode())


def _types(tally: Tally) -> str:
    return f"{tally.seen_types} of {tally.known_types} event types"


def _latency(window: Window) -> str:
    if window.latency_ms is None:
        return "no latency"
    return f"p50 {window.latency_ms:.0f} ms"


def _text(line: Line) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{line.time} ", "dim")
    text.append(f"{line.channel:<16} ", f"bold {colour(line.category)}")
    text.append(f"{line.event:<22} ", colour(line.category))
    return text.append(line.fields)
