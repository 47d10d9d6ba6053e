"""Publishes generated events to Kafka at a steady rate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs
import click
import trio

from odin_ws.catalogue import InvalidName, check_token
from odin_ws.testing.events import Event, EventGenerator, token_names

__all__ = ["Pace", "Sink", "TokenCount", "publish_events"]

# Above 100 events a second several are due at each wake-up; finer than this nobody can tell.
_SLICE_SECONDS: Final = 0.01

# What one call hands over when it has to catch up: a few milliseconds of work.
_MOST_AT_ONCE: Final = 200

_MOST_TOKENS: Final = 100_000


class TokenCount(click.ParamType[tuple[str, ...]]):
    """A number of made-up tokens, or the tokens themselves with commas between them."""

    name = "N|TOKEN,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The tokens; fails where a token could not be one, or the number is out of range."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        if text.isdecimal():
            if not 1 <= int(text) <= _MOST_TOKENS:
                self.fail(f"{text}: 1 to {_MOST_TOKENS} tokens", param, ctx)
            return token_names(int(text))
        names = [name.strip() for name in text.split(",")]
        try:
            return tuple(dict.fromkeys(check_token(name, name) for name in names))
        except InvalidName as error:
            self.fail(f"{error.name!r}: {error.message}", param, ctx)


@attrs.frozen
class Pace:
    """How many events are due when: `rate` a second, `total` in all (None: without an end)."""

    rate: float
    total: int | None

    def due(self, elapsed: float) -> int:
        """How many should be out after `elapsed` seconds; the first one is due at once."""
        number = math.floor(elapsed * self.rate) + 1
        return number if self.total is None else min(number, self.total)

    def seconds_until(self, number: int) -> float:
        """When event `number`, counted from 1, is due, in seconds after the start."""
        return (number - 1) / self.rate


class Sink(Protocol):
    """Where events go; `send` may take its time."""

    async def send(self, events: Iterable[Event]) -> None:
        """Take events, in order."""


async def publish_events(sink: Sink, events: EventGenerator, pace: Pace) -> None:
    """Send events as they become due; what could not be sent in time follows at once.

    Ends when the event after the last would be due. Raises what `sink` raises.
    """
    start = trio.current_time()
    sent = 0
    while sent != pace.total:
        elapsed = trio.current_time() - start
        count = min(pace.due(elapsed) - sent, _MOST_AT_ONCE)
        await sink.send(events.next(time.time_ns() // 1000) for _ in range(count))
        sent += count
        if count < _MOST_AT_ONCE:
            wait = max(pace.seconds_until(sent + 1), elapsed + _SLICE_SECONDS)
            await trio.sleep_until(start + wait)
