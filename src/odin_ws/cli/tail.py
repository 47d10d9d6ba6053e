"""`odin-ws tail`: subscribes and prints messages as they come."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click
import trio

from odin_ws.cli.command_runner import CommandFailed, cancel_on_signal, run, say, write_line
from odin_ws.cli.environment import stop_with
from odin_ws.cli.message_text import colour, describe, describe_end, printable, time_of_day
from odin_ws.cli.since import Since
from odin_ws.settings.secrets import read_secret_file
from odin_ws_client import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    CredentialSource,
    Disconnected,
    FeedChange,
    Item,
    Message,
    RejectedName,
    Resumed,
    Subscribed,
    Subscription,
    SubscriptionRejected,
    Unsubscribed,
)
from odin_ws_client.trio import Client, open_client

__all__ = ["tail"]

_NORMAL_CLOSE: Final = 1000

_TOKEN: Final = "ODIN_WS_TOKEN"  # noqa: S105 -- where one is

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
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar=f"{_TOKEN}_FILE",
    show_envvar=True,
    help="A file with a token, read again for each connection and when the token is about to end.",
)
@click.option(
    "--since", type=Since(), help="Begin so long ago: 90s, 10m, 1h, 2d; or at an epoch ms."
)
@click.option("--json", "as_json", is_flag=True, help="The messages as they come, one a line.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds."
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many messages.")
@click.option(
    "--reconnect/--no-reconnect",
    default=True,
    show_default=True,
    help="Come back after the end of a connection, and resume where it was.",
)
def tail(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    url: str,
    channels: list[str],
    topics: list[str],
    bundles: list[str],
    tokens: list[str],
    token_file: Path | None,
    since: int | None,
    as_json: bool,  # noqa: FBT001 -- a flag
    seconds: float | None,
    count: int | None,
    reconnect: bool,  # noqa: FBT001 -- a flag
) -> None:
    """Subscribe and print every message; without names to everything.

    Comes back by itself and goes on where it was. Ends with 0 when it was told to end or nobody
    reads its output any more; with 1 when coming back makes no sense, with --no-reconnect when the
    connection has ended, when --seconds were over before --count was reached, or when its output
    cannot be written.

    For a server that asks for a token set ODIN_WS_TOKEN, or name a file with --token-file. There is
    no option for the token itself: other users could see it in the list of processes.
    """
    if not (channels or topics or bundles):
        channels = [f"{token}.*" for token in tokens] or ["*.*"]
        tokens = []
    subscription = Subscription(channels, topics, bundles, tokens, since_ms=since)
    command = _Tail(
        url,
        subscription,
        _token_source(token_file),
        reconnect,
        as_json,
        seconds or math.inf,
        count or math.inf,
    )
    sys.exit(run(command.run))


def _token_source(file: Path | None) -> CredentialSource | None:
    """Where the token is to be had, if one is given."""
    token = os.environ.get(_TOKEN)
    if file is None:
        return token or None
    if token:
        stop_with(f"{_TOKEN}, {_TOKEN}_FILE or --token-file: only one of them can be given")
    return partial(_read_token, file)


async def _read_token(file: Path) -> str:
    try:
        secret = await trio.to_thread.run_sync(read_secret_file, file, abandon_on_cancel=True)
    except ValueError as error:
        # It may be written, or readable, a moment later.
        raise ConnectFailed(f"{file}: {error}") from None
    return secret.reveal().strip()


@attrs.define
class _Tail:
    """One run of the command; `seconds` and `count` are infinite where there is no such end."""

    url: str
    subscription: Subscription
    token: CredentialSource | None = attrs.field(repr=False)
    reconnect: bool
    as_json: bool
    seconds: float
    count: float
    received: int = 0
    subscribed: bool = False

    async def run(self) -> int:
        """Returns the exit status."""
        status = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
            status = await self._follow()
            nursery.cancel_scope.cancel()
        say(f"{self.received} messages", dim=True)
        return status

    async def _follow(self) -> int:
        try:
            async with open_client(
                self.url, self.subscription, token=self.token, reconnect=self.reconnect
            ) as client:
                with trio.move_on_after(self.seconds) as scope:
                    return await self._show_all(client, scope)
        except SubscriptionRejected as error:
            _show_rejected(error.rejected)
            raise CommandFailed(printable(f"nothing to follow: {error.message}")) from error
        except ClosedByServer as error:
            say(printable(str(error)), fg="red")
            return 1
        except ClientError as error:
            raise CommandFailed(f"{self.url}: {printable(str(error))}") from error
        if not self.subscribed:
            raise CommandFailed(f"{self.url}: no connection within {self.seconds:g} s")
        if self.count < math.inf:
            say(f"fewer than {self.count} within {self.seconds:g} s", fg="red")
            return 1
        return 0

    async def _show_all(self, client: Client, scope: trio.CancelScope) -> int:
        """Until there were enough, or the connection has ended and there will be no other."""
        end: Disconnected | None = None
        async for item in client:
            end = None
            match item:
                case Message():
                    self._show(item)
                    if self.received >= self.count:
                        return 0
                case Subscribed():
                    # Connecting does not count.
                    scope.deadline = trio.current_time() + self.seconds
                    self._show_subscribed(item)
                case Disconnected(retry_in=None):
                    # An error may follow, which says more.
                    end = item
                case _:
                    _show_event(item)
        if end is None:
            return 0
        say(describe_end(end), fg="red")
        return 0 if end.code == _NORMAL_CLOSE else 1

    def _show_subscribed(self, item: Subscribed) -> None:
        self.subscribed = True
        _show_rejected(item.rejected)
        say(f"subscribed at {self.url}: {printable(', '.join(item.names))}", dim=True)

    def _show(self, message: Message) -> None:
        self.received += 1
        if message.skipped:
            say(f"{message.skipped} messages were skipped", fg="yellow")
        if self.as_json:
            # Between its tokens JSON may have line breaks, and values are passed on as they are.
            write_line(message.text.replace("\r", " ").replace("\n", " "))
        else:
            write_line(_styled(message))


def _show_rejected(rejected: Iterable[RejectedName]) -> None:
    for one in rejected:
        why = printable(f"rejected: {one.name}: {one.message} ({one.code})")
        say(why, fg="red", bold=True)


def _show_event(item: Item) -> None:
    """What happens besides messages."""
    match item:
        case Disconnected():
            say(describe_end(item), dim=True)
        case Resumed():
            if item.seconds_away is not None:
                missed = "" if item.replayed is None else f", {item.replayed} messages behind"
                say(f"resumed after {item.seconds_away:.1f} s{missed}", dim=True)
            for topic, partitions in item.lost.items():
                for partition, (first, last) in partitions.items():
                    where = f"{topic} {partition}, offsets {first} to {last}"
                    say(printable(f"lost: {where} ({item.reason})"), fg="yellow")
        case Unsubscribed():
            names = printable(", ".join(item.names))
            say(f"not granted by the new token, nothing comes of: {names}", fg="yellow")
        case FeedChange():
            since = "" if item.since is None else f" since {time_of_day(item.since)}"
            say(printable(f"the server's feed is {item.status}{since}"), fg="yellow")


def _styled(message: Message) -> str:
    line = describe(message)
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
