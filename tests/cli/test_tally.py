"""The demo's counts and how it prints them."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from odin_ws.catalogue import default_catalogue
from odin_ws.cli.demo_display import open_display
from odin_ws.cli.tally import Tally
from odin_ws_client import Message
from tests.cli.messages import message_of


def message(
    seq: int, category: str = "trade", kind: str = "TRADE_EXECUTED", pub_us: int = 0
) -> Message:
    """Return a message as the client yields it."""
    value = {"type": kind, "timestamp": 0, "data": {"price": 1, "pub_us": pub_us}}
    return message_of(f"BTC.{category}", value, seq=seq)


def tally_of(*messages: Message, now_us: int = 0) -> Tally:
    """Return a tally that began at 0 and has counted these messages."""
    tally = Tally(default_catalogue(), began=0)
    for one in messages:
        tally.add(one, now_us)
    return tally


def test_categories_and_event_types_are_counted() -> None:
    """An event type of the catalogue counts as seen once."""
    tally = tally_of(
        message(1), message(2), message(3, "balances", "TRANSFER_COMPLETED"), message(4, kind="NEW")
    )
    assert tally.total == 4
    assert tally.by_category["trade"] == 3
    assert tally.by_category["balances"] == 1
    assert tally.by_category["social"] == 0
    assert (tally.seen_types, tally.known_types) == (2, 24)


def test_window_starts_at_end_of_previous_window() -> None:
    """Rates and latency cover the time since the previous window."""
    tally = tally_of(message(1), message(2, "social", "TWITTER_VERIFIED"), now_us=7_000)
    first = tally.take_window(now=2)
    assert (first.rate, first.by_category["trade"], first.latency_ms) == (1, 0.5, 7)
    tally.add(message(3, pub_us=1_000), 4_000)
    second = tally.take_window(now=3)
    assert (second.rate, second.by_category["social"], second.latency_ms) == (1, 0, 3)
    assert tally.take_window(now=4).latency_ms is None


def test_pipe_prints_one_line_per_window(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line has the rate of every category."""
    tally = tally_of(message(1), message(2))
    with open_display(Console(file=io.StringIO())) as display:
        display.begin({"health": "http://localhost/health"})
        display.show(tally, tally.take_window(now=1))
        display.end(tally, tally.take_window(now=1.5))
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["health", "http://localhost/health"]
    assert "2 messages" in second
    assert "1 of 24 event types" in second
    assert all(name in second for name in default_catalogue().categories)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses first, then the rates of each window; what a person is told is on stderr."""
    tally = tally_of(message(1), message(2))
    with open_display(Console(file=io.StringIO()), as_json=True) as display:
        display.note("starting the broker")
        display.begin({"health": "http://localhost/health", "Kafka": "localhost:9092"})
        display.show(tally, tally.take_window(now=1))
        display.end(tally, tally.take_window(now=1.5))
    printed = capsys.readouterr()
    addresses, rate = map(json.loads, printed.out.splitlines())
    assert addresses == {
        "type": "addresses",
        "health": "http://localhost/health",
        "kafka": "localhost:9092",
    }
    assert rate["type"] == "rate"
    assert (rate["messages"], rate["messages_per_second"]) == (2, 2)
    assert (rate["event_types"], rate["known_event_types"]) == (1, 24)
    assert tuple(rate["by_category"]) == tuple(default_catalogue().categories)
    assert printed.err == "starting the broker\n"


def test_terminal_shows_table() -> None:
    """The last table has every category, the totals and the last messages."""
    screen = io.StringIO()
    tally = tally_of(message(1), message(2, "social", "TWITTER_VERIFIED"))
    with open_display(Console(file=screen, force_terminal=True, width=100)) as display:
        display.begin({"health": "http://localhost/health"})
        display.note("something happens")
        display.end(tally, tally.take_window(now=1))
    shown = screen.getvalue()
    for text in ("http://localhost/health", "something happens", "BTC.social", "TWITTER_VERIFIED"):
        assert text in shown
    assert all(name in shown for name in default_catalogue().categories)
