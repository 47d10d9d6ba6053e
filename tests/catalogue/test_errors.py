"""Finds the line of a field in the text of a catalogue file."""

from __future__ import annotations

import pytest

from odin_ws.catalogue.errors import line_of

FILE = """\
unknown = "weather"
[[topics]]
name = "a"
[[ topics ]]
name = "b"
key = "avro"
[bundles]
"ALL" = ["a"]
[demo.data.WIND]
knots = 1
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("unknown", 1),
        ("topics[0].name", 3),
        ("topics[1].name", 5),
        ("topics[1].key (b)", 6),
        ("topics[1].category", 4),  # missing: the line of its table
        ("topics[0].key", 2),
        ("bundles.ALL", 8),
        ("bundles.NONE", 7),
        ("demo.data.WIND.knots", 10),
        ("demo.data.WIND", 9),
        ("demo.tokens", None),
        ("topics[2].name", None),
        ("", None),
    ],
)
def test_line_of_a_field(place: str, line: int | None) -> None:
    """A field has its own line or that of its table; what is not in the file has none."""
    assert line_of(FILE, place) == line
