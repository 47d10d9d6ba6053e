"""Filters compare as users expect, and hostile filters and values stay cheap."""

from __future__ import annotations

import gc
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.filters import Fields, FilterRegistry, InvalidFilter, fields, read_filter
from odin_ws.protocol.filters.decimals import MAX_NUMBER_LENGTH, read_number, simplified
from odin_ws.protocol.filters.parser import MAX_CONSTANTS, MAX_DEPTH, MAX_LISTED, MAX_TERMS


def matches(tree: Any, value: Any) -> bool:
    """Return whether a value, or its JSON text, matches the filter."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_filter(tree).matches(Fields(text))


@pytest.mark.parametrize(
    "amount", ["1500.2", "1000", "1e3", "1000.0", 1000, 1500.2, "1e400"], ids=repr
)
def test_decimal_string_is_compared_as_number(amount: object) -> None:
    """Odin's amounts are decimal strings; 9 is less than 1000, although "9" > "1000" as text."""
    tree = {"field": "data.amount", "gte": 1000}
    assert matches(tree, {"data": {"amount": amount}})
    assert not matches({"not": tree}, {"data": {"amount": amount}})


@pytest.mark.parametrize(
    "amount", ["999.999", "9", -1500, "", "1,500", "1500 ", None, True, [2000]]
)
def test_gte_does_not_match_smaller_or_non_number(amount: object) -> None:
    """A value that is no number matches no numeric comparison."""
    assert not matches({"field": "data.amount", "gte": 1000}, {"data": {"amount": amount}})


def test_numbers_are_compared_exactly() -> None:
    """Neither values nor constants are rounded to doubles."""
    assert matches({"field": "a", "eq": 0.1}, {"a": "0.1"})
    assert matches({"field": "a", "eq": 0.1}, b'{"a":0.10}')
    assert not matches({"field": "a", "eq": 0.1}, b'{"a":0.1000000000000000055511151231257827}')
    assert matches({"field": "a", "gt": "9007199254740992"}, b'{"a":9007199254740993}')
    assert matches({"field": "a", "gt": "18446744073709551616"}, b'{"a":18446744073709551617}')
    assert not matches({"field": "a", "eq": "18446744073709551616"}, b'{"a":18446744073709551617}')


@pytest.mark.parametrize(
    "number",
    [b"1e400", b"-1e400", b"1e-400", b"1e999999999999999999", b"1e9999999999999999999999"],
    ids=repr,
)
def test_numbers_beyond_doubles_are_compared_within_100_ms(number: bytes) -> None:
    """As JSON numbers and as strings; an exponent of too many digits makes it no number."""
    for text in (b'{"a":%b}' % number, b'{"a":"%b"}' % number):
        begun = time.perf_counter()
        if len(number) < 22:
            assert matches({"field": "a", "lt": 5}, text) is (
                number != b"1e400" and b"1e9" not in number
            )
        matches({"field": "a", "in": [1, "x", "1e400"]}, text)
        assert time.perf_counter() - begun < 0.1


def test_constant_with_large_exponent_stays_decimal() -> None:
    """As an integer it would have a million digits."""
    assert isinstance(simplified(Decimal("1e999999")), Decimal)
    assert isinstance(simplified(Decimal("1e18")), int)


def test_number_longer_than_limit_is_text() -> None:
    """The filter reads at most MAX_NUMBER_LENGTH characters: 500,000 digits take less than 1 s."""
    digits = "1" * (MAX_NUMBER_LENGTH + 1)
    assert matches({"field": "a", "gt": 5}, {"a": digits[:-1]})
    assert not matches({"field": "a", "gt": 5}, {"a": digits})
    assert not matches({"field": "a", "gt": 5}, b'{"a":%b.5}' % digits.encode())
    begun = time.perf_counter()
    matches({"field": "a", "gt": 5}, {"a": "9" * 500_000})
    matches({"field": "a", "gt": 5}, b'{"b":1.5,"a":%b}' % (b"9" * 500_000))
    assert time.perf_counter() - begun < 1


def test_strings_are_ordered_by_code_point() -> None:
    """ISO dates are ordered; a number and a string are never compared."""
    tree = {"field": "at", "gte": "2026-11-30"}
    assert matches(tree, {"at": "2026-12-01T00:00:00Z"})
    assert not matches(tree, {"at": "2026-11-29"})
    assert not matches(tree, {"at": 2027})
    assert not matches(tree, {"at": "2027"})


def test_prefix_is_the_beginning_as_it_is_written() -> None:
    """By code points: neither elsewhere in the string, nor in another case or composition."""
    tree = {"field": "a", "prefix": "Bé"}
    assert matches(tree, {"a": "Bé"})
    assert matches(tree, {"a": "Bér"})
    for value in ("bér", "BÉR", "aBér", "B", "Be\u0301r", "", ["Bér"], {"Bér": 1}, None, 5):
        assert not matches(tree, {"a": value})
    emoji = {"field": "a", "prefix": "👨"}
    assert matches(emoji, {"a": "👨\u200d👩"})
    assert matches({"field": "a", "prefix": "1.5"}, {"a": "1.50"})
    assert not matches({"field": "a", "prefix": "1.5"}, {"a": 1.5})


def test_missing_field_matches_only_ne_and_not_exists() -> None:
    """`ne` is the opposite of `eq`; a field with the value null exists."""
    assert matches({"field": "a", "ne": 1}, {})
    assert not matches({"field": "a", "ne": 1, "exists": True}, {})
    assert not matches({"field": "a", "eq": None}, {})
    assert matches({"field": "a", "eq": None, "exists": True}, {"a": None})
    assert matches({"field": "a.b", "exists": False}, {"a": [{"b": 1}]})
    assert matches({"field": "a.b", "exists": False}, {"a.b": 1})


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"field": "a", "lt": 1}, {"field": "a", "lt": 2}),
        ({"field": "a", "prefix": "x"}, {"field": "b", "prefix": "x"}),
        ({"field": "a", "exists": True}, {"field": "b", "exists": True}),
        (
            {"field": "a", "gt": 1, "lt": 3},
            {"or": [{"field": "a", "gt": 1}, {"field": "a", "lt": 3}]},
        ),
    ],
)
def test_filters_that_differ_in_one_part_are_not_shared(one: Any, another: Any) -> None:
    """Else a subscription would get what another one asked for."""
    assert read_filter(one) != read_filter(another)


def test_names_lead_to_fields_at_any_depth_and_texts_have_up_to_256_characters() -> None:
    """Both bounds are inclusive."""
    assert matches({"field": "a.b.c.d", "eq": 1}, {"a": {"b": {"c": {"d": 1}}}})
    assert matches({"field": "a", "prefix": "x" * 256}, {"a": "x" * 300})
    assert matches({"field": "x" * 256, "exists": True}, {"x" * 256: None})
    assert matches({"field": ".".join("a" * 16), "exists": False}, {})


def test_true_does_not_equal_one() -> None:
    """In Python it does."""
    for value, constant in ((True, 1), (1, True), (False, 0), (0, False), ("true", True)):
        assert not matches({"field": "a", "eq": constant}, {"a": value})
        assert not matches({"field": "a", "in": [constant, "x"]}, {"a": value})
    assert read_filter({"field": "a", "eq": True}) != read_filter({"field": "a", "eq": 1})


def test_value_that_orjson_rejects_is_filtered() -> None:
    """The fields of a value with a lone surrogate or 1e400 are found."""
    value = b'{"a":"\\ud83d","b":1e400,"c":"5"}'
    assert matches({"field": "c", "eq": 5}, value)
    assert matches({"field": "a", "prefix": "\ud83d"}, value)
    assert matches({"field": "b", "gt": 1e308}, value)


def test_fields_of_deeply_nested_value_are_found() -> None:
    """A number in a value too deep for Python's parser is no number."""
    for depth in (400, 990):
        text = b'{"a":"7","x":1.5,"b":%b}' % (b"[" * depth + b"]" * depth)
        assert matches({"field": "a", "eq": 7}, text)
        assert not matches({"field": "x", "gt": 2}, text)


INVALID: list[tuple[Any, str]] = [
    ([], "where: must be an object"),
    ({}, "where: must be one of and, or, not, field, not nothing"),
    ({"fields": "a", "eq": 1}, "where: must be one of and, or, not, field, not fields, eq"),
    ({"and": [], "or": []}, "where: must be one of"),
    ({"and": []}, "where.and: must be a list of one or more"),
    ({"or": {"field": "a", "eq": 1}}, "where.or: must be a list of one or more"),
    ({"and": [{"field": "a", "eq": 1}, 5]}, "where.and[1]: must be an object"),
    ({"not": []}, "where.not: must be an object"),
    ({"field": "a"}, "where: must have one of eq, ne, "),
    ({"field": "a", "equals": 1}, "where: must have one of eq, ne, "),
    ({"field": "a", "eq": 1, "and": []}, "where: must have one of eq, ne, "),
    ({"field": "", "eq": 1}, "where.field: must be one to"),
    ({"field": "a..b", "eq": 1}, "where.field: must be one to"),
    ({"field": ["a"], "eq": 1}, "where.field: must be one to"),
    ({"field": ".".join("a" * 17), "eq": 1}, "where.field: must be one to"),
    ({"field": "a" * 257, "eq": 1}, "where.field: must be one to"),
    ({"field": "a", "eq": []}, "where.eq: must be a number, a string, true"),
    ({"field": "a", "eq": float("inf")}, "where.eq: must be a number, a string, true"),
    ({"field": "a", "gte": None}, "where.gte: must be a number or a string"),
    ({"field": "a", "lt": True}, "where.lt: must be a number or a string"),
    ({"field": "a", "in": []}, "where.in: must be a list of 1 to"),
    ({"field": "a", "in": "abc"}, "where.in: must be a list of 1 to"),
    ({"field": "a", "in": list(range(MAX_LISTED + 1))}, "where.in: must be a list of 1 to"),
    ({"field": "a", "in": [1, {}]}, "where.in[1]: must be a number, a string"),
    ({"field": "a", "prefix": 1}, "where.prefix: must be a string"),
    ({"field": "a", "prefix": "x" * 257}, "where.prefix: must be a string"),
    ({"field": "a", "exists": 1}, "where.exists: must be true or false"),
    (
        {"and": [{"not": {"field": "a", "eq": {}}}]},
        "where.and[0].not.eq: must be a number, a string",
    ),
]


@pytest.mark.parametrize(("tree", "message"), INVALID, ids=repr)
def test_invalid_filter_error_names_place_in_tree(tree: Any, message: str) -> None:
    """The message says what is allowed there."""
    with pytest.raises(InvalidFilter) as caught:
        read_filter(tree)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


def test_filter_beyond_max_terms_or_depth_is_rejected() -> None:
    """Repeated comparisons count once."""
    several = [{"field": "a", "eq": number} for number in range(MAX_TERMS + 1)]
    assert read_filter({"or": several[:-1]}).terms == MAX_TERMS
    halves = {"and": [{"or": several[:9]}, {"or": several[8:]}]}
    too_many: list[Any] = [{"or": several}, halves]
    for one in too_many:
        with pytest.raises(InvalidFilter, match=f"at most {MAX_TERMS}"):
            read_filter(one)
    assert read_filter({"or": several[:1] * MAX_TERMS}).terms == 1
    tree: Any = {"field": "a", "eq": 1}
    for _ in range(MAX_DEPTH - 1):
        tree = {"not": tree}
    read_filter(tree)
    with pytest.raises(InvalidFilter, match="nested at most"):
        read_filter({"not": tree})


def test_constants_of_all_lists_are_bounded_together() -> None:
    """Before they are read: 16 lists of 64 constants would take the event loop for milliseconds."""

    def lists(count: int, listed: int) -> Any:
        fields = [{"field": f"f{number}", "in": list(range(listed))} for number in range(count)]
        return {"or": [{"and": [field]} for field in fields]}

    read_filter(lists(2, MAX_CONSTANTS // 2))
    with pytest.raises(InvalidFilter, match=f"at most {MAX_CONSTANTS} constants, not 192"):
        read_filter(lists(3, MAX_CONSTANTS // 2))


def test_lists_and_objects_of_a_filter_are_bounded() -> None:
    """Repeated conditions are one comparison, but each is read."""
    tree: Any = {"field": "a", "eq": 1}
    for _ in range(3):
        tree = {"or": [tree] * 16}
    with pytest.raises(InvalidFilter, match="at most 500 lists and objects"):
        read_filter(tree)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["and", "or", "not", "field", "eq", "in", "gte"]), inner
        )
    ),
)


@given(json_values, st.dictionaries(st.text(max_size=3), json_values))
def test_any_tree_is_filter_or_invalid_filter(tree: Any, value: dict[str, Any]) -> None:
    """A filter evaluates any value without an exception."""
    try:
        one = read_filter(tree)
    except InvalidFilter:
        return
    try:
        text = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return
    one.matches(Fields(text))


def test_registry_shares_equal_filters_and_limits_different_ones() -> None:
    """A filter that is no longer used makes room for another."""
    registry = FilterRegistry(2)
    first = registry.share(read_filter({"field": "a", "eq": 1}))
    assert registry.share(read_filter({"field": "a", "eq": "1.0"})) is first
    second = registry.share(read_filter({"field": "a", "eq": 2}))
    assert registry.share(read_filter({"field": "a", "eq": 3})) is None
    assert registry.share(read_filter({"field": "a", "eq": 2})) is second
    del second
    gc.collect()
    assert len(registry) == 1
    assert registry.share(read_filter({"field": "a", "eq": 3})) is not None


def test_value_is_parsed_once_and_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of filters and fields does not matter."""
    parsed: list[bytes] = []

    def load(text: bytes) -> Any:
        parsed.append(text)
        return json.loads(text)

    monkeypatch.setattr("odin_ws.protocol.filters.fields.load_json", load)
    fields = Fields(b'{"a":"1","b":2}')
    assert parsed == []
    for number in range(5):
        for name in ("a", "b"):
            read_filter({"field": name, "gte": number}).matches(fields)
    assert len(parsed) == 1


def test_only_compared_numbers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order book has thousands of numbers beside the price that a filter compares."""
    numbers: list[str] = []

    def count(text: str) -> Decimal | None:
        numbers.append(text)
        return read_number(text)

    where = read_filter({"field": "price", "gt": "0.3"})
    monkeypatch.setattr(fields, "read_number", count)
    book = ",".join(f"[{level}.5,0.1]" for level in range(1000)).encode()
    assert where.matches(Fields(b'{"price":0.30000000000000001,"book":[%b]}' % book))
    assert numbers == ["0.30000000000000001"]
