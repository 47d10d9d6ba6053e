"""The publisher's pace and its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue, load_catalogue
from odin_ws.cli.event_publisher import Pace, TokenCount, choose_tokens, publish_events
from odin_ws.testing.events import Event, EventGenerator


class Collector:
    """A sink that records when each event came; its first call takes `stall` seconds."""

    def __init__(self, stall: float = 0) -> None:
        self.times: list[float] = []
        self._stall = stall

    async def send(self, events: Iterable[Event]) -> None:
        """Record events and their time. See Sink."""
        stall, self._stall = self._stall, 0
        await trio.sleep(stall)
        self.times += [trio.current_time() for _ in events]


async def publish(sink: Collector, pace: Pace) -> None:
    """Publish from time 0 on."""
    await publish_events(sink, EventGenerator(["BTC"], seed=1), pace)


async def test_slow_events_are_evenly_spaced(autojump_clock: MockClock) -> None:
    """Each event is sent alone, and the run takes as long as it should."""
    sink = Collector()
    began = autojump_clock.current_time()
    await publish(sink, Pace(rate=4, total=8))
    assert [round(at - began, 2) for at in sink.times] == [0.25 * number for number in range(8)]
    assert autojump_clock.current_time() - began == pytest.approx(2, abs=0.02)


async def test_fast_events_are_sent_in_batches_every_10_ms(autojump_clock: MockClock) -> None:
    """At 5,000 per second the count is right at any time, within one slice of 10 ms."""
    sink = Collector()
    began = autojump_clock.current_time()
    await publish(sink, Pace(rate=5000, total=2500))
    assert len(sink.times) == 2500
    for number, at in enumerate(sink.times):
        assert number / 5000 <= at - began + 1e-6 <= number / 5000 + 0.011


async def test_events_late_after_stall_follow_at_once(autojump_clock: MockClock) -> None:
    """After a stall of one second of two the count and the end are right."""
    sink = Collector(stall=1)
    began = autojump_clock.current_time()
    await publish(sink, Pace(rate=1000, total=2000))
    assert len(sink.times) == 2000
    assert sum(at - began <= 1.02 for at in sink.times) >= 1000
    assert autojump_clock.current_time() - began == pytest.approx(2, abs=0.02)


@given(st.floats(0.01, 1e5), st.integers(1, 10**6), st.floats(0, 1e4))
def test_due_is_one_at_start_and_at_most_total(rate: float, total: int, elapsed: float) -> None:
    """The first event is due at time 0."""
    pace = Pace(rate, total)
    assert pace.due(0) == 1
    assert 1 <= pace.due(elapsed) <= total
    assert pace.due(elapsed) <= Pace(rate, None).due(elapsed)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1", ("BTC",)),
        ("2", ("BTC", "ODIN")),
        ("X", ("X",)),
        ("a.b, c ,a.b", ("a.b", "c")),
        ("0x", ("0x",)),
    ],
)
def test_tokens_option_takes_number_or_names(text: str, tokens: tuple[str, ...]) -> None:
    """A number generates that many tokens; names are used once each."""
    given = TokenCount().convert(text, None, None)
    assert choose_tokens(given, default_catalogue()) == tokens


def test_tokens_of_the_catalogue_come_first() -> None:
    """Without the option, the tokens of `[demo]`; a number takes so many of them, and more."""
    catalogue = load_catalogue(Path("examples/scores.toml").read_text("utf-8"))
    assert choose_tokens(None, catalogue) == ("MUC-BVB", "RMA-FCB", "LIV-ARS", "PSG-OM")
    assert choose_tokens(2, catalogue) == ("MUC-BVB", "RMA-FCB")
    assert choose_tokens(5, catalogue) == (*catalogue.demo.tokens, "TOKEN5")
    assert choose_tokens(("X",), catalogue) == ("X",)
    assert len(choose_tokens(None, default_catalogue())) == 6


@pytest.mark.parametrize("text", ["0", "100001", "*", "a,,b", "x" * 129])
def test_invalid_tokens_option_is_usage_error(text: str) -> None:
    """Numbers out of range and invalid token names are rejected."""
    with pytest.raises(click.BadParameter):
        TokenCount().convert(text, None, None)
