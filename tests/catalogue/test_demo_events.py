"""The section `[demo]` of a catalogue: rules of generated events, and errors with their place."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from odin_ws.catalogue import CatalogueError, load_catalogue
from odin_ws.catalogue.demo_events import Scalar

FILE = """
[[topics]]
name = "stations"
category = "measured"
events = ["RAIN", "WIND"]

[demo]
tokens = ["oslo", "rome"]

[demo.weights]
WIND = 3

[demo.data.WIND]
knots = {rule}
"""


def values(rule: str, count: int = 200) -> list[Scalar]:
    """Return values by a rule, one after the other."""
    made = load_catalogue(FILE.replace("{rule}", rule)).demo.data["WIND"]["knots"]
    random = Random(1)  # noqa: S311 -- of a test
    found: list[Scalar] = []
    for _ in range(count):
        found.append(made.next(found[-1] if found else None, random))
    return found


def test_section_is_optional() -> None:
    """Without `[demo]` there are no tokens, weights and rules."""
    demo = load_catalogue(FILE.partition("[demo]")[0]).demo
    assert (demo.tokens, demo.weights, demo.data) == ((), {}, {})


def test_tokens_and_weights() -> None:
    """Both are what the file says; a type without a weight is not among them."""
    demo = load_catalogue(FILE.replace("{rule}", "1")).demo
    assert demo.tokens == ("oslo", "rome")
    assert demo.weights == {"WIND": 3}


@pytest.mark.parametrize(("rule", "value"), [('"calm"', "calm"), ("7", 7), ("0.5", 0.5)])
def test_constant(rule: str, value: Scalar) -> None:
    """A text or number stands for itself."""
    assert values(rule, 3) == [value] * 3


def test_list_is_a_choice() -> None:
    """Each value of a list comes."""
    assert set(values('["N", "S", true]')) == {"N", "S", True}


def test_between_two_integers() -> None:
    """Integers between two integers, the limits included."""
    assert set(values("{ between = [1, 4] }")) == {1, 2, 3, 4}


def test_between_two_floats() -> None:
    """Numbers with three digits between two floats."""
    found = [value for value in values("{ between = [0.0, 0.5] }") if isinstance(value, float)]
    assert len(found) == 200
    assert all(0 <= one <= 0.5 and one == round(one, 3) for one in found)


@pytest.mark.parametrize("rule", ["[20, 2]", "[20.0, 0.5]"])
def test_walk_moves_in_steps_within_limits(rule: str) -> None:
    """It begins at its start, moves by a step at most, and stays between the limits."""
    found = values(f"{{ walk = {rule}, between = [15, 22] }}")
    assert found[0] == 20
    assert len(set(found)) > 4
    for before, after in pairwise(found):
        assert isinstance(before, int | float)
        assert isinstance(after, int | float)
        assert abs(after - before) <= 2.001
        assert 15 <= after <= 22


def test_count() -> None:
    """The integers from the start on."""
    assert values("{ count = 5 }", 3) == [5, 6, 7]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("[demo]", "[sample]", 7, "sample: unknown key sample; allowed: bundles, demo"),
        ('tokens = ["oslo', 'tokens = ["os*lo', 8, r"demo\.tokens: 'os\*lo': a \* stands"),
        ("tokens =", "token =", 8, r"demo\.token: unknown key token; allowed: data, tokens"),
        (
            "WIND = 3",
            "WIND = 0",
            11,
            r"demo\.weights\.WIND: must be an integer from 1 to 1000, not 0",
        ),
        ("WIND = 3", "WIND = true", 11, r"demo\.weights\.WIND: must be an integer .* not True"),
        ("WIND = 3", "GALE = 3", 11, r"demo\.weights\.GALE: .* GALE; allowed: RAIN, WIND"),
        (".WIND]", ".GALE]", 13, r"demo\.data\.GALE: .* GALE; allowed: RAIN, WIND"),
        ("knots =", "pub_us =", 14, r"demo\.data\.WIND\.pub_us: the publisher writes"),
        (
            "{rule}",
            "[]",
            14,
            r"demo\.data\.WIND\.knots: \[\] is not a rule; allowed: a string, .*count",
        ),
        ("{rule}", "[[1]]", 14, r".* is not a rule"),
        ("{rule}", "{ between = [1] }", 14, r".* is not a rule"),
        ("{rule}", "{ between = [nan, 2] }", 14, r".* is not a rule"),
        ("{rule}", "{ between = [2, 1] }", 14, r".* the first number must be below the second"),
        ("{rule}", "{ walk = [1, 1], between = 7 }", 14, r".* between needs two numbers, not 7"),
        ("{rule}", "{ walk = [1, 1], limits = [1, 2] }", 14, r".* is not a rule"),
        ("{rule}", "{ count = true }", 14, r".* is not a rule"),
    ],
)
def test_error_names_field_line_and_what_is_allowed(
    old: str, new: str, line: int, message: str
) -> None:
    """A rule with a mistake is found by its line."""
    text = FILE.replace(old, new, 1).replace("{rule}", "1")
    with pytest.raises(CatalogueError, match=f"^{message}") as raised:
        load_catalogue(text)
    assert raised.value.line == line
