"""The ledger finds missing, duplicated, disordered and foreign records."""

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
    """Return packed positions of the trades of BTC."""
    return [pack(0, 3, offset) for offset in offsets]


START = {("odin.trades", 3): 9}


@given(
    topic=st.integers(0, 7), partition=st.integers(0, 65535), offset=st.integers(0, (1 << 40) - 1)
)
def test_packed_position_unpacks_to_itself(topic: int, partition: int, offset: int) -> None:
    """A packed position unpacks to itself, and fits the journal's 64 bits."""
    packed = pack(topic, partition, offset)
    assert unpack(packed) == (topic, partition, offset)
    assert packed < 1 << 63


def test_expected_records_begin_after_the_start(ledger: Ledger) -> None:
    """A subscriber receives the records of its channels after the positions of its ack."""
    assert ledger.expected(["BTC.trade"], START) == set(of_btc(10, 12, 14, 16, 18))


@pytest.mark.parametrize(
    ("pattern", "count"), [("*.trade", 20), ("BTC.*", 11), ("*.*", 21), ("ETH.trade", 10)]
)
def test_pattern_matches_channels(ledger: Ledger, pattern: str, count: int) -> None:
    """`*` stands for every token or every category; partitions not named begin at 0."""
    assert len(ledger.expected([pattern], {})) == count


def test_record_of_two_patterns_is_expected_once(ledger: Ledger) -> None:
    """Overlapping patterns expect a record once."""
    verdict = ledger.compare(["BTC.trade", "*.trade"], START, of_btc(*range(10, 20)))
    assert verdict.good
    assert verdict.expected == 10


def test_complete_ordered_records_are_good(ledger: Ledger) -> None:
    """Each record was received once and in order."""
    assert ledger.compare(["BTC.trade"], START, of_btc(10, 12, 14, 16, 18)).good


def test_record_not_received_is_missing(ledger: Ledger) -> None:
    """A record that was never received is missing, even the last record."""
    assert ledger.compare(["BTC.trade"], START, of_btc(10, 14, 16)).missing == of_btc(12, 18)


def test_record_received_again_is_duplicated(ledger: Ledger) -> None:
    """Each receipt after the first counts."""
    verdict = ledger.compare(["BTC.trade"], START, of_btc(10, 12, 12, 14, 10, 16, 18))
    assert verdict.duplicated == of_btc(12, 10)
    assert verdict.disordered == verdict.missing == []
    assert not verdict.good


def test_record_received_after_a_later_one_is_disordered(ledger: Ledger) -> None:
    """A record received after a later one of its partition is disordered, and not missing."""
    verdict = ledger.compare(["BTC.trade"], START, of_btc(10, 14, 12, 16, 18))
    assert verdict.disordered == of_btc(12)
    assert verdict.missing == []
    assert not verdict.good


def test_records_of_different_partitions_have_no_order(ledger: Ledger) -> None:
    """A record of another topic may arrive at any point."""
    received = [*of_btc(10, 12), pack(1, 3, 0), *of_btc(14, 16, 18)]
    assert ledger.compare(["BTC.*"], START, received).good


def test_record_not_subscribed_to_is_foreign(ledger: Ledger) -> None:
    """Records of another channel, from before the start, or unknown ones are foreign."""
    received = of_btc(8, 10, 11, 12, 14, 16, 18, 20)
    verdict = ledger.compare(["BTC.trade"], START, received)
    assert verdict.foreign == of_btc(8, 11, 20)
    assert not verdict.good


def test_position_is_named_with_topic_and_time(ledger: Ledger) -> None:
    """A position can be named, with the time of its acknowledgement."""
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
def test_longest_silence_touches_the_interval(times: list[float], longest: float) -> None:
    """The longest gap that overlaps the interval counts, here from 5 to 20."""
    assert longest_silence(array("d", times), 5.0, 20.0) == longest


def test_quantile_is_not_exceeded_by_the_share() -> None:
    """The quantile is a value that the share does not exceed; the largest one for the share 1."""
    values = [float(number) for number in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51
    assert quantile(values, 0.99) == 100
    assert quantile(values, 1) == 100
    assert quantile([], 0.5) == 0
