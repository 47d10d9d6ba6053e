"""The section `[demo]` of a catalogue file: how `odin-ws demo` and `publish` generate events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Any, Final, Protocol

import attrs

from odin_ws.catalogue.channel_names import InvalidName, check_token
from odin_ws.catalogue.errors import CatalogueError
from odin_ws.catalogue.fields import check_keys, read_table, read_texts

__all__ = ["DemoEvents", "FieldRule", "Scalar", "read_demo_events"]

Scalar = str | int | float | bool

# A deck of more cards would repeat an event type only after minutes.
_MAX_WEIGHT: Final = 1000

# Decimals of generated numbers.
_DIGITS: Final = 3

# The generator adds this field to each event's data: the publish time.
_RESERVED: Final = "pub_us"

_ALLOWED: Final = (
    "a string, a number, true or false, a list to choose from, { between = [0, 100] }, "
    "{ walk = [20.0, 0.5] } (start and step; with between its limits) or { count = 1 }"
)


class FieldRule(Protocol):
    """The rule by which values of one field of an event are generated."""

    def next(self, previous: Scalar | None, random: Random) -> Scalar:
        """Return a value; `previous` is the last value of the same field and token, or None."""


@attrs.frozen
class Constant:
    """The same value in each event."""

    value: Scalar

    def next(self, previous: Scalar | None, random: Random) -> Scalar:  # noqa: ARG002 -- the protocol's
        """Return the value."""
        return self.value


@attrs.frozen
class Choice:
    """One of several values; each is equally likely."""

    values: tuple[Scalar, ...]

    def next(self, previous: Scalar | None, random: Random) -> Scalar:  # noqa: ARG002 -- the protocol's
        """Return one of the values."""
        return random.choice(self.values)


@attrs.frozen
class Between:
    """A number from `low` to `high`; an integer if both are."""

    low: float
    high: float

    def next(self, previous: Scalar | None, random: Random) -> Scalar:  # noqa: ARG002 -- the protocol's
        """Return a number between the limits."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return random.randint(self.low, self.high)
        return round(random.uniform(self.low, self.high), _DIGITS)


@attrs.frozen
class Walk:
    """A random walk from `start`: each value is up to `step` from the one before."""

    start: float
    step: float
    limits: Between | None

    def next(self, previous: Scalar | None, random: Random) -> Scalar:
        """Return the next value of the walk."""
        if not isinstance(previous, int | float):
            return self.start
        if isinstance(self.start, int) and isinstance(self.step, int):
            value: float = previous + random.randint(-self.step, self.step)
        else:
            value = round(previous + random.uniform(-self.step, self.step), _DIGITS)
        if self.limits is not None:
            value = min(max(value, self.limits.low), self.limits.high)
        return value


@attrs.frozen
class Count:
    """The integers from `start` on, for each token."""

    start: int

    def next(self, previous: Scalar | None, random: Random) -> Scalar:  # noqa: ARG002 -- the protocol's
        """Return the next integer."""
        return previous + 1 if isinstance(previous, int) else self.start


_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@attrs.frozen
class DemoEvents:
    """The section `[demo]` of a catalogue file; empty without the section."""

    tokens: tuple[str, ...] = ()
    """The tokens of generated events."""
    weights: Mapping[str, int] = _EMPTY
    """Occurrences of an event type in one round of all types; 1 if an event type is missing."""
    data: Mapping[str, Mapping[str, FieldRule]] = _EMPTY
    """The rules for the fields of each event type's data, by event type and field."""


def read_demo_events(value: Any, event_types: set[str]) -> DemoEvents:
    """Read the section `[demo]`. Raises CatalogueError."""
    table = read_table(value, "demo")
    check_keys(table, {"tokens", "weights", "data"}, "demo")
    weights = read_table(table.get("weights", {}), "demo.weights")
    data = read_table(table.get("data", {}), "demo.data")
    for location, names in (("demo.weights", weights), ("demo.data", data)):
        if unknown := sorted(set(names) - event_types):
            allowed = ", ".join(sorted(event_types)) or "none, because no topic has events"
            raise CatalogueError(
                f"{location}.{unknown[0]}", f"unknown event type {unknown[0]}; allowed: {allowed}"
            )
    return DemoEvents(
        tokens=_tokens(table.get("tokens", [])),
        weights={name: _weight(weight, f"demo.weights.{name}") for name, weight in weights.items()},
        data={name: _fields(fields, f"demo.data.{name}") for name, fields in data.items()},
    )


def _tokens(value: Any) -> tuple[str, ...]:
    tokens = read_texts(value, "demo.tokens")
    try:
        return tuple(dict.fromkeys(check_token(token, token) for token in tokens))
    except InvalidName as error:
        raise CatalogueError("demo.tokens", f"{error.name!r}: {error.message}") from error


def _weight(value: Any, location: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_WEIGHT:
        raise CatalogueError(location, f"must be an integer from 1 to {_MAX_WEIGHT}, not {value!r}")
    return value


def _fields(value: Any, location: str) -> dict[str, FieldRule]:
    table = read_table(value, location)
    if _RESERVED in table:
        raise CatalogueError(f"{location}.{_RESERVED}", "the publisher writes this field itself")
    return {name: _rule(rule, f"{location}.{name}") for name, rule in table.items()}


def _rule(value: Any, location: str) -> FieldRule:
    match value:
        case str() | int() | float():  # bool is an int
            return Constant(value)
        case [_, *_] if all(isinstance(item, str | int | float) for item in value):
            return Choice(tuple(value))
        case {"between": [low, high], **rest} if not rest and _are_numbers(low, high):
            return _between(low, high, location)
        case {"walk": [start, step], **rest} if rest.keys() <= {"between"} and _are_numbers(
            start, step
        ):
            return Walk(start, abs(step), _limits(rest.get("between"), location))
        case {"count": int(start), **rest} if not rest and _are_numbers(start):
            return Count(start)
    raise CatalogueError(location, f"{value!r} is not a rule; allowed: {_ALLOWED}")


def _limits(value: Any, location: str) -> Between | None:
    match value:
        case None:
            return None
        case [low, high] if _are_numbers(low, high):
            return _between(low, high, location)
    raise CatalogueError(location, f"between needs two numbers, not {value!r}")


def _between(low: float, high: float, location: str) -> Between:
    if low > high:
        raise CatalogueError(
            location, f"between [{low}, {high}]: the first number must be below the second"
        )
    return Between(low, high)


def _are_numbers(*values: Any) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )
