"""Filters agree with a simple model that calculates with exact fractions."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odin_ws.protocol.filters import Fields, read_filter
from tests.hypothesis_examples import examples

NAMES: Final = ("a", "b", "c")
PATHS: Final = ("a", "b", "a.b", "a.b.c", "b.a")

ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}

# JSON numbers: equal ones in different spellings, neighbours, and beyond the range of doubles.
NUMBERS: Final = (
    *(
        "0",
        "-0",
        "0.0",
        "1",
        "1.0",
        "10e-1",
        "0.1",
        "1e-1",
        "0.10",
        "-0.1",
        "1500.2",
        "1.5e3",
        "1.5E3",
    ),
    *("0.1000000000000000055511151231257827", "9007199254740993", "9007199254740992.0"),
    *("123456789012345678901234567890", "1e20", "-1e20", "0.30000000000000004", "0.3"),
)
# Numbers that a double holds exactly; the others have to be strings in a command.
DOUBLES: Final = ("0", "1", "1.0", "0.1", "-0.1", "1500.2", "1.5e3", "1e20", "-1e20", "0.3")
TEXTS: Final = ("", "x", "xy", "buy", "01", "+1", "1 ", ".5", "1.", "٣", "0x10", "Infinity", "NaN")


class Verbatim(str):
    """A JSON text that `to_json` copies as it is."""

    __slots__ = ()


leaves = st.one_of(
    st.sampled_from(NUMBERS).map(Verbatim),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from([True, False, None]),
    st.lists(st.integers(0, 1), max_size=1),
)
values = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(
        leaves, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=4
    ),
)
scalars = st.one_of(
    st.sampled_from(DOUBLES).map(json.loads), st.sampled_from(NUMBERS), st.sampled_from(TEXTS)
)
constants = scalars | st.sampled_from([True, False, None])
paths = st.sampled_from(PATHS)


def leaf(kind: str, constant: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for conditions of one kind on a field."""
    return st.builds(lambda path, value: {"field": path, kind: value}, paths, constant)


conditions = st.one_of(
    *(leaf(kind, constants) for kind in ("eq", "ne")),
    *(leaf(kind, scalars) for kind in ORDERS),
    leaf("in", st.lists(constants, min_size=1, max_size=3)),
    leaf("prefix", st.sampled_from(["", "1", "x", "0."])),
    leaf("exists", st.booleans()),
    st.builds(
        lambda path, low, high: {"field": path, "gte": low, "lt": high}, paths, scalars, scalars
    ),
)
trees = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"and": several}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"or": several}),
        inner.map(lambda one: {"not": one}),
    ),
    max_leaves=6,
)


def to_json(value: Any) -> str:
    """Return the value as JSON text."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name)}:{to_json(one)}" for name, one in value.items())
        return "{" + ",".join(pairs) + "}"
    return json.dumps(value)


def number(value: Any) -> Fraction | None:
    """Return a value or constant as a number, or None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Fraction(repr(value))
    is_number = isinstance(value, str) and re.fullmatch(
        r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", value
    )
    return Fraction(value) if is_number else None


def equal(value: Any, constant: Any) -> bool:
    """Compare numbers by value, and all else by type and value."""
    if number(value) is not None or number(constant) is not None:
        return number(value) == number(constant)
    return type(value) is type(constant) and value == constant


def holds(tree: dict[str, Any], value: Any) -> bool:
    """Evaluate a condition as docs/protocol.md describes it."""
    if "and" in tree:
        return all(holds(one, value) for one in tree["and"])
    if "or" in tree:
        return any(holds(one, value) for one in tree["or"])
    if "not" in tree:
        return not holds(tree["not"], value)
    there, found = True, value
    for name in tree["field"].split("."):
        there = there and isinstance(found, dict) and name in found
        found = found[name] if there else None
    kinds = {kind: constant for kind, constant in tree.items() if kind != "field"}
    return all(compare(kind, constant, found, there) for kind, constant in kinds.items())


def compare(kind: str, constant: Any, found: Any, there: bool) -> bool:  # noqa: FBT001, PLR0911 -- a table
    """Evaluate one comparison."""
    if kind == "exists":
        return there is constant
    if kind == "ne":
        return not (there and equal(found, constant))
    if not there:
        return False
    if kind == "eq":
        return equal(found, constant)
    if kind == "in":
        return any(equal(found, one) for one in constant)
    is_text = isinstance(found, str) and not isinstance(found, Verbatim)
    if kind == "prefix":
        return is_text and found.startswith(constant)
    if number(constant) is not None:
        return number(found) is not None and ORDERS[kind](number(found), number(constant))
    return is_text and number(found) is None and ORDERS[kind](found, constant)


@settings(max_examples=examples(400))
@given(trees, values)
def test_filter_agrees_with_model(tree: dict[str, Any], value: dict[str, Any]) -> None:
    """For every kind of condition, value and constant; a second evaluation returns the same."""
    one = read_filter(tree)
    fields = Fields(to_json(value).encode())
    expected = holds(tree, value)
    assert one.matches(fields) is expected
    assert one.matches(fields) is expected


LITERALS: Final = (True, False, None)

# Every value that a field may have, and no field.
FIELD_VALUES: Final[tuple[dict[str, Any], ...]] = (
    *({"a": Verbatim(number)} for number in NUMBERS),
    *({"a": one} for one in (*NUMBERS, *TEXTS, *LITERALS, [], [1], ["x"], {}, {"a": 1})),
    {},
)

CONSTANTS: Final = (*(json.loads(double) for double in DOUBLES), *NUMBERS, *TEXTS)


@pytest.mark.parametrize("kind", ["eq", "ne", *ORDERS, "in", "prefix", "exists"])
def test_comparison_agrees_with_model_for_every_pair(kind: str) -> None:
    """Of a constant and a value, with equal ones and neighbours: random pairs are rarely equal."""
    constants: Sequence[Any] = CONSTANTS if kind in ORDERS else (*CONSTANTS, *LITERALS)
    if kind == "prefix":
        constants = (*TEXTS, *NUMBERS)
    elif kind == "exists":
        constants = (True, False)
    for constant in constants:
        tree = {"field": "a", kind: [constant] if kind == "in" else constant}
        one = read_filter(tree)
        for value in FIELD_VALUES:
            text = to_json(value)
            assert one.matches(Fields(text.encode())) is holds(tree, value), (tree, text)


def shuffled(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the same conditions in reverse order, some of them twice."""
    for kind in ("and", "or"):
        if kind in tree:
            several = [shuffled(one) for one in reversed(tree[kind])]
            return {kind: [*several, several[0]] if len(several) < 3 else several}
    if "not" in tree:
        return {"not": shuffled(tree["not"])}
    return dict(reversed(tree.items()))


@given(trees, trees)
def test_equal_conditions_are_equal_filters(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Order and repetition do not matter; different conditions are different filters."""
    one = read_filter(first)
    again = read_filter(shuffled(first))
    assert one == again
    assert hash(one) == hash(again)
    if one == read_filter(second):
        for value in ({}, {"a": "1"}, {"a": {"b": 1}, "b": "x"}, {"b": {"a": None}}):
            assert holds(first, value) is holds(second, value)
