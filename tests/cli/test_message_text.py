"""Messages as lines: what they show, and that they cannot steer a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.cli.message_text import describe, describe_end, printable
from odin_ws_client import Disconnected
from tests.cli.messages import message_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_line_has_the_first_fields() -> None:
    """Channel, event type and the first four fields are shown, the time of publishing is not."""
    data = {"pub_us": 1, "price": 0.5, "side": "buy", "flags": [1, 2], "new": True, "fifth": 5}
    value = {"type": "TRADE_EXECUTED", "timestamp": 1, "data": data}
    line = describe(message_of("a.b.trade", value, timestamp=1_767_609_600_123))
    assert line.time.endswith(".123")
    assert line.channel == "a.b.trade"
    assert line.category == "trade"
    assert line.event == "TRADE_EXECUTED"
    assert line.fields == "price=0.5  side=buy  flags=[1,2]  new=true"


def test_long_values_are_cut() -> None:
    """A value takes at most 20 characters of the line."""
    line = describe(message_of("BTC.trade", {"data": {"wallet": "w" * 100}}))
    assert line.fields == "wallet=" + "w" * 19 + "…"


def test_half_a_surrogate_pair_is_shown_as_an_escape() -> None:
    """In a text and deeper; no terminal takes it."""
    data = {"data": {"a": "x\ud83d", "b": ["\ud83d"]}}
    line = describe(message_of("BTC.trade", data))
    assert line.fields == r'a=x\ud83d  b=["\ud83d"]'


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


@pytest.mark.parametrize("timestamp", [-1, 2**62, -(2**62), 253_402_300_800_000])
def test_any_timestamp_has_a_line(timestamp: int) -> None:
    """Kafka takes any, so one that is no date must not end the command."""
    assert len(describe(message_of("BTC.trade", {}, timestamp=timestamp)).time) == 12


@given(JSON, st.text())
def test_any_value_has_a_line(value: Any, channel: str) -> None:
    """Whatever a record holds, its line is printable."""
    line = describe(message_of(channel, value))
    assert all(part.isprintable() for part in line)


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (Disconnected(1006, "rejected", 0.25), "disconnected: rejected; trying again in 0.2 s"),
        (Disconnected(1012, "draining", None), "disconnected: 1012 draining"),
        (Disconnected(1000, "", None), "disconnected: 1000"),
        (Disconnected(4999, "\x1b[2J", None), r"disconnected: 4999 \x1b[2J"),
    ],
)
def test_an_end_is_a_line(end: Disconnected, line: str) -> None:
    """With the code if there was one, the reason, and what comes next."""
    assert describe_end(end) == line
