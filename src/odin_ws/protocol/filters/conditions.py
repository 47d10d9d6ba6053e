"""The conditions of filters, as functions: each takes the fields of a value and never raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from odin_ws.protocol.filters.decimals import Number
from odin_ws.protocol.filters.fields import MISSING, Fields
from odin_ws.protocol.filters.filter import Test

__all__ = ["ORDERS", "all_of", "among", "any_of", "exists", "has_prefix", "negated"]


def all_of(tests: Sequence[Test]) -> Test:
    """Return a test that all conditions are met."""

    def matches(fields: Fields) -> bool:
        for test in tests:  # noqa: SIM110 -- a generator for each record would take twice as long
            if not test(fields):
                return False
        return True

    return matches


def any_of(tests: Sequence[Test]) -> Test:
    """Return a test that at least one condition is met."""

    def matches(fields: Fields) -> bool:
        for test in tests:  # noqa: SIM110 -- as above
            if test(fields):
                return True
        return False

    return matches


def negated(test: Test) -> Test:
    """Return a test that a condition is not met."""

    def matches(fields: Fields) -> bool:
        return not test(fields)

    return matches


def exists(name: str) -> Test:
    """Return a test that the field exists, even if null."""

    def matches(fields: Fields) -> bool:
        return fields[name] is not MISSING

    return matches


def has_prefix(name: str, prefix: str) -> Test:
    """Return a test that the field is a string with this prefix, even one with a number."""

    def matches(fields: Fields) -> bool:
        value = fields[name]
        return isinstance(value, str) and value.startswith(prefix)

    return matches


def among(
    name: str, constants: AbstractSet[Number | str], literals: AbstractSet[bool | None]
) -> Test:
    """Return a test that the field is one of these: numbers by value, strings, literals."""

    def matches(fields: Fields) -> bool:
        number = fields.numbers[name]
        if number is not None:
            return number in constants
        value = fields[name]
        if isinstance(value, str):
            return value in constants
        return (value is None or isinstance(value, bool)) and value in literals

    return matches


def _lt(name: str, constant: Number | str) -> Test:
    if isinstance(constant, str):
        text: str = constant
        return lambda fields: (value := fields.text(name)) is not None and value < text
    number: Number = constant
    return lambda fields: (value := fields.numbers[name]) is not None and value < number


def _lte(name: str, constant: Number | str) -> Test:
    if isinstance(constant, str):
        text: str = constant
        return lambda fields: (value := fields.text(name)) is not None and value <= text
    number: Number = constant
    return lambda fields: (value := fields.numbers[name]) is not None and value <= number


def _gt(name: str, constant: Number | str) -> Test:
    if isinstance(constant, str):
        text: str = constant
        return lambda fields: (value := fields.text(name)) is not None and value > text
    number: Number = constant
    return lambda fields: (value := fields.numbers[name]) is not None and value > number


def _gte(name: str, constant: Number | str) -> Test:
    if isinstance(constant, str):
        text: str = constant
        return lambda fields: (value := fields.text(name)) is not None and value >= text
    number: Number = constant
    return lambda fields: (value := fields.numbers[name]) is not None and value >= number


ORDERS: Final[dict[str, Callable[[str, Number | str], Test]]] = {
    "lt": _lt,
    "lte": _lte,
    "gt": _gt,
    "gte": _gte,
}
"""Return tests that the field is before or after a constant: numbers by value, other strings by
code points. A number and a string that is not written as one have no order: no test is met."""
