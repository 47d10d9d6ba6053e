"""`odin-ws tail`: what a server sends, as it comes."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import attrs
import click
import trio

from odin_ws.cli.running import CommandFailed, cancel_on_signal, run, say, write_line
from odin_ws.cli.subscriber import Message, Subscriber, SubscriberClosed, open_subscriber
from odin_ws.cli.text import colour, describe, printable

__all__ = ["tail"]

_NORMAL_CLOSE: Final = 1000

# Channels and event types line up where they are not longer than these.
_CHANNEL_COLUMNS: Final = 16
_EVENT_COLUMNS: Final = 22


_F = TypeVar("_F", bound=Callable[..., Any])


def _names(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> list[str]:
    return [name for several in given for one in several.split(",") if (name := one.strip())]


def _several(name: str, text: str) -> Callable[[_F], _F]:
    return click.option(name, multiple=True, callback=_names, metavar="NAME,…", help=text)


@click.command(short_help="Follow a server and print every message.")
@click.option(
    "--url", default="ws://127.0.0.1:3002/ws", show_default=True, help="The server to follow."
)
@_several("--channels", "Channels, patterns and bundles: BTC.trade, *.trade, BTC.*, BTC.TRADING.")
@_several("--topics", "Kafka topics: odin.trades.")
@_several("--bundles", "Bundles: TRADING.")
@_several("--tokens", "Narrows topics and bundles; alone it means everything about these tokens.")
@click.option("--json", "as_json", is_flag=True, help="The messages as they come, one a line.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds."
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many messages.")
def tail(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    url: str,
    channels: list[str],
    topics: list[str],
    bundles: list[str],
    tokens: list[str],
    as_json: bool,  # noqa: FBT001 -- a flag
    seconds: float | None,
    count: int | None,
) -> None:
    """Subscribe and print every message; without names to everything.

    Ends with 0 when it was told to end or nobody reads its output any more; with 1 when the server
    ended it, or when --seconds were over before --count was reached.
    """
    if not (channels or topics or bundles):
        channels = [f"{token}.*" for token in tokens] or ["*.*"]
        tokens = []
    names = {"channels": channels, "topics": topics, "bundles": bundles, "tokens": tokens}
    selection = {field: several for field, several in names.items() if several}
    command = _Tail(url, selection, as_json, seconds or math.inf, count or math.inf)
    sys.exit(run(command.run))


@attrs.define
class _Tail:
    """One run of the command; `seconds` and `count` are infinite where there is no such end."""

    url: str
    selection: dict[str, list[str]]
    as_json: bool
    seconds: float
    count: float
    received: int = 0

    async def run(self) -> int:
        """Returns the exit status."""
        status = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
            async with open_subscriber(self.url) as subscriber:
                try:
                    await self._subscribe(subscriber)
                    status = await self._follow(subscriber)
                except SubscriberClosed as closed:
                    say(str(closed), fg="red")
                    status = 0 if closed.code == _NORMAL_CLOSE else 1
            nursery.cancel_scope.cancel()
        say(f"{self.received} messages", dim=True)
        return status

    async def _follow(self, subscriber: Subscriber) -> int:
        with trio.move_on_after(self.seconds):
            while self.received < self.count:
                self._show(await subscriber.receive())
        if self.received < self.count < math.inf:
            say(f"fewer than {self.count} within {self.seconds:g} s", fg="red")
            return 1
        return 0

    async def _subscribe(self, subscriber: Subscriber) -> None:
        answer = await subscriber.subscribe(self.selection)
        for one in answer.rejected:
            why = printable(f"rejected: {one['name']}: {one['message']} ({one['code']})")
            say(why, fg="red", bold=True)
        if not answer.subscribed:
            raise CommandFailed("nothing to follow: the server rejected every name")
        say(f"subscribed at {self.url}: {printable(', '.join(answer.subscribed))}", dim=True)

    def _show(self, message: Message) -> None:
        if message.type != "message":
            # Not a record: the feed's state, or the advice to reconnect.
            say(printable(message.text), fg="yellow")
            return
        self.received += 1
        if skipped := message.fields.get("skipped"):
            say(f"{skipped} messages were skipped", fg="yellow")
        if self.as_json:
            # Between its tokens JSON may have line breaks, and values are passed on as they are.
            write_line(message.text.replace("\r", " ").replace("\n", " "))
        else:
            write_line(_styled(message))


def _styled(message: Message) -> str:
    line = describe(message.fields)
    channel = line.channel.ljust(_CHANNEL_COLUMNS)
    event = line.event.ljust(_EVENT_COLUMNS)
    fields = line.fields
    if sys.stdout.isatty():
        used = len(f"{line.time} {channel} {event} ")
        fields = fields[: max(0, shutil.get_terminal_size().columns - used)]
    shade = colour(line.category)
    return " ".join(
        (
            click.style(line.time, dim=True),
            click.style(channel, fg=shade, bold=True),
            click.style(event, fg=shade),
            fields,
        )
    )
