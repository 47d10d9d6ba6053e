"""Publishes generated events to Kafka at a steady rate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs
import click
import trio

from odin_ws.catalogue import Catalogue, InvalidName, check_token
from odin_ws.testing.events import Event, EventGenerator, token_names

__all__ = ["Pace", "Sink", "TokenCount", "choose_tokens", "publish_events"]

# Seconds between two wake-ups. Above 100 events per second one wake-up sends several events.
_SLICE_SECONDS: Final = 0.01

# Events per call when the publisher catches up: a few milliseconds of work.
_MAX_BATCH: Final = 200

_MAX_TOKENS: Final = 100_000


_DEFAULT_TOKENS: Final = 6


class TokenCount(click.ParamType[int | tuple[str, ...]]):
    """An option type: a number of generated tokens, or token names separated by commas."""

    name = "N|TOKEN,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[str, ...]:
        """Return the number or the names; fails if one is invalid or the number is out of range."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        if text.isdecimal():
            if not 1 <= int(text) <= _MAX_TOKENS:
                self.fail(f"{text}: must be 1 to {_MAX_TOKENS} tokens", param, ctx)
            return int(text)
        names = [name.strip() for name in text.split(",")]
        try:
            return tuple(dict.fromkeys(check_token(name, name) for name in names))
        except InvalidName as error:
            self.fail(f"{error.name!r}: {error.message}", param, ctx)


def choose_tokens(given: int | tuple[str, ...] | None, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the tokens of `--tokens`, else those of the catalogue's `[demo]`, else six tokens."""
    match given:
        case tuple():
            return given
        case None:
            return catalogue.demo.tokens or token_names(_DEFAULT_TOKENS)
        case int(count):
            names = catalogue.demo.tokens
            return token_names(count, names) if names else token_names(count)


@attrs.frozen
class Pace:
    """The schedule of events: `rate` events per second, `total` events in all (None: unlimited)."""

    rate: float
    total: int | None

    def due(self, elapsed: float) -> int:
        """Return how many events are due after `elapsed` seconds; the first is due at 0."""
        number = math.floor(elapsed * self.rate) + 1
        return number if self.total is None else min(number, self.total)

    def seconds_until(self, number: int) -> float:
        """Return when event `number`, counted from 1, is due, in seconds after the start."""
        return (number - 1) / self.rate


class Sink(Protocol):
    """Receives events, such as a Kafka producer.

    A protocol because tests of the pace run without Kafka.
    """

    async def send(self, events: Iterable[Event]) -> None:
        """Send events in order; may block while the receiver is behind."""


async def publish_events(sink: Sink, events: EventGenerator, pace: Pace) -> None:
    """Send events as they become due; late events follow at once.

    Ends when the event after the last would be due. Raises the exceptions of `sink`.
    """
    start = trio.current_time()
    sent = 0
    while sent != pace.total:
        elapsed = trio.current_time() - start
        count = min(pace.due(elapsed) - sent, _MAX_BATCH)
        await sink.send(events.next(time.time_ns() // 1000) for _ in range(count))
        sent += count
        if count < _MAX_BATCH:
            wait = max(pace.seconds_until(sent + 1), elapsed + _SLICE_SECONDS)
            await trio.sleep_until(start + wait)
