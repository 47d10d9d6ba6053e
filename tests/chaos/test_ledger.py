"""The ledger finds what is missing, double, out of order or not asked for."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.ledger import Ledger, Position, longest_silence, pack, quantile, unpack

TOPICS = ["odin.trades", "odin.liquidity"]


@pytest.fixture
def ledger() -> Ledger:
    """Ten records of BTC and ten of ETH in turn, all in partition 3, and one of liquidity."""
    ledger = Ledger(TOPICS)
    for offset in range(20):
        channel = "ETH.trade" if offset % 2 else "BTC.trade"
        ledger.add(channel, pack(0, 3, offset), float(offset))
    ledger.add("BTC.liquidity", pack(1, 3, 0), 100.0)
    return ledger


def of_btc(*offsets: int) -> list[int]:
    """Packed positions of trades."""
    return [pack(0, 3, offset) for offset in offsets]


START = {("odin.trades", 3): 9}


@given(
    topic=st.integers(0, 7), partition=st.integers(0, 65535), offset=st.integers(0, (1 << 40) - 1)
)
def test_a_position_survives_packing(topic: int, partition: int, offset: int) -> None:
    """A packed position unpacks to itself, and it fits the journal's 64 bits."""
    packed = pack(topic, partition, offset)
    assert unpack(packed) == (topic, partition, offset)
    assert packed < 1 << 63


def test_expected_is_what_comes_after_the_start(ledger: Ledger) -> None:
    """A subscriber gets the records of its channels behind the positions of its ack."""
    assert ledger.expected(["BTC.trade"], START) == set(of_btc(10, 12, 14, 16, 18))


@pytest.mark.parametrize(
    ("pattern", "count"), [("*.trade", 20), ("BTC.*", 11), ("*.*", 21), ("ETH.trade", 10)]
)
def test_patterns_match_as_the_server_says(ledger: Ledger, pattern: str, count: int) -> None:
    """A star stands for every token or every category; partitions not named begin at 0."""
    assert len(ledger.expected([pattern], {})) == count


def test_a_record_of_two_patterns_is_expected_once(ledger: Ledger) -> None:
    """Patterns that overlap do not make a record two."""
    verdict = ledger.judge(["BTC.trade", "*.trade"], START, of_btc(*range(10, 20)))
    assert verdict.good
    assert verdict.expected == 10


def test_nothing_wrong_is_good(ledger: Ledger) -> None:
    """Each record once and in order is as it should be."""
    assert ledger.judge(["BTC.trade"], START, of_btc(10, 12, 14, 16, 18)).good


def test_missing(ledger: Ledger) -> None:
    """A record that never came is missing, also the last one."""
    assert ledger.judge(["BTC.trade"], START, of_btc(10, 14, 16)).missing == of_btc(12, 18)


def test_duplicated(ledger: Ledger) -> None:
    """Each further time that a record came counts."""
    verdict = ledger.judge(["BTC.trade"], START, of_btc(10, 12, 12, 14, 10, 16, 18))
    assert verdict.duplicated == of_btc(12, 10)
    assert verdict.disordered == verdict.missing == []
    assert not verdict.good


def test_out_of_order(ledger: Ledger) -> None:
    """A record that came after a later one of its partition is out of order, and not missing."""
    verdict = ledger.judge(["BTC.trade"], START, of_btc(10, 14, 12, 16, 18))
    assert verdict.disordered == of_btc(12)
    assert verdict.missing == []
    assert not verdict.good


def test_partitions_have_no_order_among_each_other(ledger: Ledger) -> None:
    """A record of another topic may come at any point."""
    received = [*of_btc(10, 12), pack(1, 3, 0), *of_btc(14, 16, 18)]
    assert ledger.judge(["BTC.*"], START, received).good


def test_not_asked_for(ledger: Ledger) -> None:
    """Another channel's records, those of before the start, and unknown ones are foreign."""
    received = of_btc(8, 10, 11, 12, 14, 16, 18, 20)
    verdict = ledger.judge(["BTC.trade"], START, received)
    assert verdict.foreign == of_btc(8, 11, 20)
    assert not verdict.good


def test_names(ledger: Ledger) -> None:
    """A position can be told in words, with the time at which the broker had it."""
    assert ledger.named(pack(1, 3, 0)) == Position("odin.liquidity", 3, 0)
    assert ledger.published(pack(1, 3, 0)) == 100
    assert pack(1, 3, 0) in ledger
    assert pack(1, 3, 1) not in ledger
    assert len(ledger) == 21


@pytest.mark.parametrize(
    ("times", "longest"),
    [
        pytest.param([4.0, 8.0, 15.0, 19.0], 7.0, id="between two messages"),
        pytest.param([4.0, 8.0, 10.0], 10.0, id="not over at the end"),
        pytest.param([1.0, 14.0, 19.0], 13.0, id="begun before"),
        pytest.param([14.0, 19.0, 40.0], 9.0, id="no message before"),
        pytest.param([], 15.0, id="no message at all"),
        pytest.param([40.0], 15.0, id="none inside"),
    ],
)
def test_longest_silence(times: list[float], longest: float) -> None:
    """The longest time between neighbours that touches the interval, here from 5 to 20."""
    assert longest_silence(array("d", times), 5.0, 20.0) == longest


def test_quantiles() -> None:
    """The value that a share does not exceed; the last one for all of them."""
    values = [float(number) for number in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51
    assert quantile(values, 0.99) == 100
    assert quantile(values, 1) == 100
    assert quantile([], 0.5) == 0
