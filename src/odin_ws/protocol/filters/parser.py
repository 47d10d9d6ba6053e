"""Parses `where`: a tree of conditions in JSON to a filter, or to an error with its location."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from decimal import Decimal
from math import isinf
from typing import Any, Final, NamedTuple

from odin_ws.protocol.errors import shown
from odin_ws.protocol.filters import conditions
from odin_ws.protocol.filters.decimals import MAX_NUMBER_LENGTH, Number, read_number, simplified
from odin_ws.protocol.filters.filter import Filter, Test

__all__ = ["MAX_CONSTANTS", "MAX_DEPTH", "MAX_LISTED", "MAX_TERMS", "InvalidFilter", "read_filter"]

MAX_TERMS: Final = 16
"""Comparisons in one filter. Each takes 0.3 us of every record that the subscription matches."""

MAX_DEPTH: Final = 8
"""Limit of nested and, or and not; handwritten filters have about three."""

MAX_LISTED: Final = 64
"""Constants of one `in`, which is one comparison: they are looked up by their hash."""

MAX_CONSTANTS: Final = 128
"""Constants of all `in` of one filter: reading them takes a part of a time slice, 0.3 ms."""

# Lists and objects of a tree; no handwritten filter comes near it.
_MAX_PARTS: Final = 500

_MAX_TEXT: Final = 256
"""Characters of a constant and of a field's name: a URL fits, a payload does not."""

_MAX_NAMES: Final = 16

_GROUPS: Final = ("and", "or")
_ORDERS: Final = ("lt", "lte", "gt", "gte")
_COMPARISONS: Final = ("eq", "ne", *_ORDERS, "in", "prefix", "exists")


class InvalidFilter(Exception):
    """A tree is not a valid filter; `location`: the path of the invalid part, from `where` on."""

    def __init__(self, location: str, message: str) -> None:
        super().__init__(f"{location}: {message}")


class _Part(NamedTuple):
    """A part of a filter: its canonical form, its test, its comparisons."""

    key: Hashable
    test: Test
    terms: int


def read_filter(tree: Any, location: str = "where") -> Filter:
    """Read a tree of conditions. Raises InvalidFilter.

    Two trees that differ only in the order of conditions, or in how numbers are written, are the
    same filter.
    """
    listed = _count_listed(tree, location)
    if listed > MAX_CONSTANTS:
        raise InvalidFilter(location, f"must list at most {MAX_CONSTANTS} constants, not {listed}")
    part = _read(tree, location, 1)
    if part.terms > MAX_TERMS:
        raise InvalidFilter(
            location, f"must have at most {MAX_TERMS} comparisons, not {part.terms}"
        )
    return Filter(part.key, part.test, part.terms, tree)


def _count_listed(tree: Any, location: str) -> int:
    """Count the constants of all `in`, without reading them. Raises InvalidFilter."""
    listed = parts = 0
    remaining: list[dict[str, Any] | list[Any]] = [tree] if isinstance(tree, dict) else []
    while remaining:
        parts += 1
        if parts > _MAX_PARTS:
            raise InvalidFilter(location, f"must have at most {_MAX_PARTS} lists and objects")
        part = remaining.pop()
        if isinstance(part, dict):
            constants = part.get("in")
            listed += len(constants) if isinstance(constants, list) else 0
            remaining += [
                child
                for key, child in part.items()
                if key != "in" and isinstance(child, dict | list)
            ]
        else:
            remaining += [child for child in part if isinstance(child, dict | list)]
    return listed


def _read(tree: Any, location: str, depth: int) -> _Part:
    if not isinstance(tree, dict):
        raise InvalidFilter(location, "must be an object")
    if depth > MAX_DEPTH:
        raise InvalidFilter(location, f"must be nested at most {MAX_DEPTH} deep")
    if "field" in tree:
        return _read_field(tree, location)
    allowed = (*_GROUPS, "not", "field")
    if len(tree) != 1 or not tree.keys() <= set(allowed):
        given = shown(", ".join(tree)) or "nothing"
        raise InvalidFilter(location, f"must be one of {', '.join(allowed)}, not {given}")
    ((kind, value),) = tree.items()
    if kind == "not":
        return _negated(_read(value, f"{location}.not", depth + 1))
    return _read_group(kind, value, f"{location}.{kind}", depth)


def _read_group(kind: str, value: Any, location: str, depth: int) -> _Part:
    if not isinstance(value, list) or not value:
        raise InvalidFilter(location, "must be a list of one or more conditions")
    if len(value) > MAX_TERMS:
        raise InvalidFilter(location, f"must have at most {MAX_TERMS} conditions")
    parts = [_read(item, f"{location}[{number}]", depth + 1) for number, item in enumerate(value)]
    return _joined(kind, parts)


def _joined(kind: str, parts: Sequence[_Part]) -> _Part:
    """Return the parts joined by `and` or `or`, without duplicates."""
    distinct = {part.key: part for part in parts}
    if len(distinct) == 1:
        (one,) = distinct.values()
        return one
    join = conditions.all_of if kind == "and" else conditions.any_of
    tests = [part.test for part in distinct.values()]
    terms = sum(part.terms for part in distinct.values())
    return _Part((kind, frozenset(distinct)), join(tests), terms)


def _negated(part: _Part) -> _Part:
    return _Part(("not", part.key), conditions.negated(part.test), part.terms)


def _read_field(tree: dict[str, Any], location: str) -> _Part:
    name = tree["field"]
    _check_name(name, f"{location}.field")
    unknown = tree.keys() - {"field", *_COMPARISONS}
    if unknown or len(tree) == 1:
        given = f"not {shown(', '.join(sorted(unknown)))}" if unknown else "none is given"
        raise InvalidFilter(location, f"must have one of {', '.join(_COMPARISONS)}; {given}")
    parts = [
        _read_comparison(name, kind, value, f"{location}.{kind}")
        for kind, value in tree.items()
        if kind != "field"
    ]
    return _joined("and", parts)


def _check_name(name: Any, location: str) -> None:
    if isinstance(name, str) and 0 < len(name) <= _MAX_TEXT:
        names = name.split(".")
        if len(names) <= _MAX_NAMES and all(names):
            return
    raise InvalidFilter(
        location,
        f"must be one to {_MAX_NAMES} names, joined by dots, of at most {_MAX_TEXT} characters "
        "together",
    )


def _read_comparison(name: str, kind: str, value: Any, location: str) -> _Part:
    match kind:
        case "exists":
            if not isinstance(value, bool):
                raise InvalidFilter(location, "must be true or false")
            part = _Part(("exists", name), conditions.exists(name), 1)
            return part if value else _negated(part)
        case "prefix":
            text = _read_text(value, location)
            return _Part(("prefix", name, text), conditions.has_prefix(name, text), 1)
        case "in":
            return _read_in(name, value, location)
        case "eq" | "ne":
            constants = [_read_constant(value, location)]
            part = _among(name, constants)
            return part if kind == "eq" else _negated(part)
        case _:
            constant = _read_constant(value, location)
            if constant is None or isinstance(constant, bool):
                raise InvalidFilter(location, "must be a number or a string")
            test = conditions.ORDERS[kind]
            return _Part((kind, name, constant), test(name, constant), 1)


def _read_in(name: str, value: Any, location: str) -> _Part:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_LISTED:
        raise InvalidFilter(
            location, f"must be a list of 1 to {MAX_LISTED} numbers, strings, true, false, null"
        )
    constants = [_read_constant(item, f"{location}[{number}]") for number, item in enumerate(value)]
    return _among(name, constants)


_Constant = Number | str | bool | None


def _among(name: str, constants: Collection[_Constant]) -> _Part:
    # By kind: true and 1 are equal in Python.
    literals = frozenset(
        constant for constant in constants if constant is None or isinstance(constant, bool)
    )
    others = frozenset(
        constant
        for constant in constants
        if isinstance(constant, Decimal | int | str) and not isinstance(constant, bool)
    )
    test = conditions.among(name, others, literals)
    return _Part(("in", name, others, literals), test, 1)


def _read_constant(value: Any, location: str) -> _Constant:
    """Return a constant; a string that is written as a number becomes that number."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = _read_text(value, location)
        number = read_number(text)
        return text if number is None else simplified(number)
    if isinstance(value, int) or (isinstance(value, float) and not isinf(value)):
        # The usual decimal form of a float: 0.1, not its binary neighbour.
        return simplified(Decimal(repr(value)))
    raise InvalidFilter(
        location,
        "must be a number, a string, true, false or null; a number beyond a double is written as a "
        f"string of at most {MAX_NUMBER_LENGTH} characters",
    )


def _read_text(value: Any, location: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise InvalidFilter(location, f"must be a string of at most {_MAX_TEXT} characters")
    return value
