"""Messages as lines of text that are safe to print."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.cli.message_text import describe, describe_end
from odin_ws.cli.printable import printable
from odin_ws_client import Disconnected
from tests.cli.messages import message_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_line_has_channel_type_and_first_four_fields() -> None:
    """The publish time is not shown."""
    data = {"pub_us": 1, "price": 0.5, "side": "buy", "flags": [1, 2], "new": True, "fifth": 5}
    value = {"type": "TRADE_EXECUTED", "timestamp": 1, "data": data}
    line = describe(message_of("a.b.trade", value, timestamp=1_767_609_600_123))
    assert line.time.endswith(".123")
    assert line.channel == "a.b.trade"
    assert line.category == "trade"
    assert line.event == "TRADE_EXECUTED"
    assert line.fields == "price=0.5  side=buy  flags=[1,2]  new=true"


def test_values_are_cut_at_20_characters() -> None:
    """A value takes at most 20 characters of the line."""
    line = describe(message_of("BTC.trade", {"data": {"wallet": "w" * 100}}))
    assert line.fields == "wallet=" + "w" * 19 + "…"


def test_lone_surrogate_is_escaped() -> None:
    """Terminals cannot print a lone surrogate, in a text or deeper in the value."""
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
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    """Control and bidirectional characters are escaped, all others are kept."""
    assert printable(text) == shown


@pytest.mark.parametrize("timestamp", [-1, 2**62, -(2**62), 253_402_300_800_000])
def test_timestamp_out_of_range_is_formatted(timestamp: int) -> None:
    """Kafka takes any timestamp; one that is no date must not end the command."""
    assert len(describe(message_of("BTC.trade", {}, timestamp=timestamp)).time) == 12


@given(JSON, st.text())
def test_any_value_gives_a_printable_line(value: Any, channel: str) -> None:
    """The line is printable whatever a record holds."""
    line = describe(message_of(channel, value))
    assert all(part.isprintable() for part in line)


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (Disconnected(1006, "rejected", 0.25), "disconnected: rejected; retrying in 0.2 s"),
        (Disconnected(1012, "draining", None), "disconnected: 1012 draining"),
        (Disconnected(1000, "", None), "disconnected: 1000"),
        (Disconnected(4999, "\x1b[2J", None), r"disconnected: 4999 \x1b[2J"),
    ],
)
def test_disconnect_line_has_code_reason_and_retry(end: Disconnected, line: str) -> None:
    """The line has the close code, if any, the reason and the wait before the retry."""
    assert describe_end(end) == line
