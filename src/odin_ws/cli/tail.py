"""`odin-ws tail`: subscribes and prints each message."""

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

from odin_ws.cli.command_runner import (
    CommandFailed,
    InvalidConfiguration,
    run,
    write_line,
    write_stderr,
)
from odin_ws.cli.environment import exit_with_usage_error
from odin_ws.cli.examples import examples
from odin_ws.cli.json_object import JsonObject
from odin_ws.cli.message_text import colour, describe, describe_end, time_of_day
from odin_ws.cli.printable import printable
from odin_ws.cli.signals import cancel_on_signal
from odin_ws.cli.since import Since
from odin_ws.settings.secrets import read_secret_file
from odin_ws_client import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    CredentialSource,
    Disconnected,
    FeedChange,
    InvalidUrl,
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

_TOKEN: Final = "ODIN_WS_TOKEN"  # noqa: S105 -- the name of the variable

# Minimum widths, so that the columns of short channels and event types are aligned.
_CHANNEL_COLUMNS: Final = 16
_EVENT_COLUMNS: Final = 22


_F = TypeVar("_F", bound=Callable[..., Any])


def _names(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> list[str]:
    return [name for text in given for item in text.split(",") if (name := item.strip())]


def _several(name: str, text: str) -> Callable[[_F], _F]:
    return click.option(name, multiple=True, callback=_names, metavar="NAME,…", help=text)


@click.command(
    short_help="Subscribe and print every message.",
    epilog=examples(
        ("Everything", "odin-ws tail"),
        ("All trades, and everything about BTC", "odin-ws tail --channels '*.trade,BTC.*'"),
        ("The last ten minutes and what follows", "odin-ws tail --tokens BTC --since 10m"),
        ("100 messages as JSON", "odin-ws tail --url wss://HOST/ws --count 100 --json"),
        ("A server with authentication", "odin-ws tail --token-file token.jwt"),
    ),
)
@click.option(
    "--url", default="ws://127.0.0.1:3002/ws", show_default=True, help="URL of the server."
)
@_several("--channels", "Channels and patterns: BTC.trade, *.trade, BTC.*, BTC.TRADING.")
@_several("--topics", "Kafka topics: odin.trades.")
@_several("--bundles", "Bundles: TRADING.")
@_several("--tokens", "Restrict topics and bundles to these tokens; alone: all their channels.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar=f"{_TOKEN}_FILE",
    show_envvar=True,
    help="A file with a JWT, read for each connection and before the JWT expires.",
)
@click.option(
    "--since", type=Since(), help="Start this long ago: 90s, 10m, 1h, 2d; or at an epoch ms."
)
@click.option(
    "--max-rate",
    type=click.FloatRange(0.1, 20),
    help="At most this number of messages per second of each channel, always the newest.",
)
@click.option(
    "--where",
    type=JsonObject(),
    help='Only records that meet a condition: \'{"field":"data.amount","gte":1000}\'.',
)
@click.option("--json", "as_json", is_flag=True, help="Print messages as received, one per line.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@click.option("--count", type=click.IntRange(1), help="Stop after this many messages.")
@click.option(
    "--reconnect/--no-reconnect",
    default=True,
    show_default=True,
    help="Reconnect after a lost connection and resume.",
)
def tail(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    url: str,
    channels: list[str],
    topics: list[str],
    bundles: list[str],
    tokens: list[str],
    token_file: Path | None,
    since: int | None,
    max_rate: float | None,
    where: dict[str, Any] | None,
    as_json: bool,  # noqa: FBT001 -- a flag
    seconds: float | None,
    count: int | None,
    reconnect: bool,  # noqa: FBT001 -- a flag
) -> None:
    """Subscribe and print every message; without names, of all channels.

    Reconnects and resumes by itself. Exit status 0 after a signal, after --count or --seconds, or
    if the reader of the output is gone; 1 after a final close or error, after any end of the
    connection with --no-reconnect, if --seconds end before --count, or if the output cannot be
    written.

    For a server with authentication set ODIN_WS_TOKEN, or name a file with --token-file. There is
    no option for the token itself: other users could see it in the list of processes.
    """
    if not (channels or topics or bundles):
        channels = [f"{token}.*" for token in tokens] or ["*.*"]
        tokens = []
    subscription = Subscription(
        channels, topics, bundles, tokens, since_ms=since, max_rate=max_rate, where=where
    )
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
    """Return the JWT or a function that reads it; None without authentication."""
    token = os.environ.get(_TOKEN)
    if file is None:
        return token or None
    if token:
        exit_with_usage_error(f"{_TOKEN}, {_TOKEN}_FILE or --token-file: set only one of them")
    return partial(_read_token, file)


async def _read_token(file: Path) -> str:
    try:
        secret = await trio.to_thread.run_sync(read_secret_file, file, abandon_on_cancel=True)
    except ValueError as error:
        # The file may be written, or become readable, a moment later.
        raise ConnectFailed(f"{file}: {error}") from None
    return secret.reveal().strip()


@attrs.define
class _Tail:
    """One run of the command; `seconds` and `count` are infinite without a limit."""

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
        """Run until a limit, a signal or the end; returns the exit status."""
        status = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
            status = await self._follow()
            nursery.cancel_scope.cancel()
        write_stderr(f"{self.received} messages", dim=True)
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
            raise CommandFailed(printable(f"nothing subscribed: {error.message}")) from error
        except ClosedByServer as error:
            write_stderr(printable(str(error)), fg="red")
            return 1
        except InvalidUrl as error:
            raise InvalidConfiguration(f"--url {self.url}: {printable(str(error))}") from error
        except ClientError as error:
            raise CommandFailed(f"{self.url}: {printable(str(error))}") from error
        if not self.subscribed:
            raise CommandFailed(f"{self.url}: no connection within {self.seconds:g} s")
        if self.count < math.inf:
            write_stderr(f"fewer than {self.count} messages within {self.seconds:g} s", fg="red")
            return 1
        return 0

    async def _show_all(self, client: Client, scope: trio.CancelScope) -> int:
        """Print items until `count`, or until the connection has ended for good."""
        end: Disconnected | None = None
        async for item in client:
            end = None
            match item:
                case Message():
                    self._show(item)
                    if self.received >= self.count:
                        return 0
                case Subscribed():
                    # --seconds start with the subscription.
                    scope.deadline = trio.current_time() + self.seconds
                    self._show_subscribed(item)
                case Disconnected(retry_in=None):
                    # An exception with more detail may follow.
                    end = item
                case _:
                    _show_event(item)
        if end is None:
            return 0
        write_stderr(describe_end(end), fg="red")
        return 0 if end.code == _NORMAL_CLOSE else 1

    def _show_subscribed(self, item: Subscribed) -> None:
        self.subscribed = True
        _show_rejected(item.rejected)
        write_stderr(f"subscribed at {self.url}: {printable(', '.join(item.names))}", dim=True)

    def _show(self, message: Message) -> None:
        self.received += 1
        if message.skipped:
            write_stderr(f"{message.skipped} messages were skipped", fg="yellow")
        if self.as_json:
            # JSON allows line breaks between tokens, and the server does not reformat values.
            write_line(message.text.replace("\r", " ").replace("\n", " "))
        else:
            write_line(_styled(message))


def _show_rejected(rejected: Iterable[RejectedName]) -> None:
    for rejection in rejected:
        why = printable(f"rejected: {rejection.name}: {rejection.message} ({rejection.code})")
        write_stderr(why, fg="red", bold=True)


def _show_event(item: Item) -> None:
    """Print an item that is no message."""
    match item:
        case Disconnected():
            write_stderr(describe_end(item), dim=True)
        case Resumed():
            if item.seconds_away is not None:
                missed = "" if item.replayed is None else f", {item.replayed} messages behind"
                write_stderr(f"resumed after {item.seconds_away:.1f} s{missed}", dim=True)
            for topic, partitions in item.lost.items():
                for partition, (first, last) in partitions.items():
                    where = f"{topic} {partition}, offsets {first} to {last}"
                    write_stderr(printable(f"lost: {where} ({item.reason})"), fg="yellow")
        case Unsubscribed():
            names = printable(", ".join(item.names))
            write_stderr(f"unsubscribed, not granted by the new token: {names}", fg="yellow")
        case FeedChange():
            since = "" if item.since is None else f" since {time_of_day(item.since)}"
            write_stderr(printable(f"feed {item.status}{since}"), fg="yellow")


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
