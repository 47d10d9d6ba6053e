"""Messages as lines: what they show, and that they cannot steer a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.cli.text import describe, printable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_line_has_the_first_fields() -> None:
    """Channel, event type and the first four fields are shown, the time of publishing is not."""
    data = {"pub_us": 1, "price": 0.5, "side": "buy", "flags": [1, 2], "new": True, "fifth": 5}
    value = {"type": "TRADE_EXECUTED", "timestamp": 1, "data": data}
    line = describe({"channel": "a.b.trade", "ts": 1_767_609_600_123, "data": value})
    assert line.time.endswith(".123")
    assert line.channel == "a.b.trade"
    assert line.category == "trade"
    assert line.event == "TRADE_EXECUTED"
    assert line.fields == "price=0.5  side=buy  flags=[1,2]  new=true"


def test_long_values_are_cut() -> None:
    """A value takes at most 20 characters of the line."""
    line = describe({"data": {"data": {"wallet": "w" * 100}}})
    assert line.fields == "wallet=" + "w" * 19 + "…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("BTC", "BTC"),
        ("買い 🚀", "買い 🚀"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nb", r"a\nb"),
        ("\u202edlog", r"\u202edlog"),
    ],
)
def test_what_steers_a_terminal_is_spelt_out(text: str, shown: str) -> None:
    """Control characters and changes of direction are shown as escapes, everything else as is."""
    assert printable(text) == shown


@given(JSON, st.text())
def test_any_value_has_a_line(value: Any, channel: str) -> None:
    """Whatever a record holds, its line is printable."""
    line = describe({"channel": channel, "ts": 0, "data": value})
    assert all(part.isprintable() for part in line)
