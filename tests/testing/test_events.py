"""Generated events conform to the catalogue, and depend only on the seed."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import (
    KeyFormat,
    ValueFormat,
    default_catalogue,
    is_token,
    load_catalogue,
)
from odin_ws.history.record_decoder import RecordDecoder
from odin_ws.records import Record
from odin_ws.testing.events import Event, EventGenerator, token_names

NOW_US = 1_767_609_600_123_456
TYPES = sorted(default_catalogue().event_types)
# Events in one round of the generator's deck.
ROUND = 52


def events(seed: int, count: int, tokens: tuple[str, ...] = ("BTC", "ODIN")) -> list[Event]:
    """Return the first events of a generator."""
    generator = EventGenerator(tokens, seed)
    return [generator.next(NOW_US + number) for number in range(count)]


def types(several: list[Event]) -> Counter[str]:
    """Return the number of events of each type."""
    return Counter(json.loads(event.value)["type"] for event in several)


@given(event_type=st.sampled_from(TYPES), seed=st.integers(0, 2**32 - 1))
def test_each_event_type_is_a_record_of_its_topic(event_type: str, seed: int) -> None:
    """The value is JSON with type, timestamp and data; the key is the token."""
    event = EventGenerator(["BTC", "a.b"], seed).event("a.b", event_type, NOW_US)
    assert event.topic == default_catalogue().event_types[event_type].name
    assert event.key == b"a.b"
    value = json.loads(event.value)
    assert list(value) == ["type", "timestamp", "data"]
    assert value["type"] == event_type
    assert value["timestamp"] == NOW_US // 1000
    assert value["data"].pop("pub_us") == NOW_US
    assert value["data"]


@given(st.integers(0, 2**32 - 1))
def test_round_has_each_event_type(seed: int) -> None:
    """Each type occurs in every 52 events, trades most often."""
    counts = types(events(seed, ROUND))
    assert sorted(counts) == TYPES
    assert counts.most_common(1)[0][0] == "TRADE_EXECUTED"
    assert types(events(seed, 2 * ROUND)) == counts + counts


@given(st.integers(0, 2**32 - 1))
def test_same_seed_gives_same_events(seed: int) -> None:
    """Two generators agree byte for byte."""
    assert events(seed, ROUND) == events(seed, ROUND)


def test_other_seed_gives_other_events() -> None:
    """Seeds 1 and 2 differ."""
    assert events(1, ROUND) != events(2, ROUND)


def test_price_changes_by_less_than_10_percent() -> None:
    """Prices of one token's trades are positive, and each is near the previous one."""
    generator = EventGenerator(["BTC"], seed=1)
    trades = [generator.event("BTC", "TRADE_EXECUTED", NOW_US) for _ in range(500)]
    prices = [json.loads(trade.value)["data"]["price"] for trade in trades]
    assert len(set(prices)) > 400
    for before, after in pairwise(prices):
        assert 0.9 < after / before < 1.1


def test_balances_add_up() -> None:
    """A wallet's balance is the previous one plus the change, and never negative."""
    generator = EventGenerator(["BTC"], seed=1)
    balances: dict[str, float] = {}
    for _ in range(500):
        data = json.loads(generator.event("BTC", "BALANCE_UPDATED", NOW_US).value)["data"]
        before = balances.get(data["wallet"], 0)
        assert data["balance"] == pytest.approx(before + data["change"], abs=0.02)
        assert data["balance"] >= 0
        balances[data["wallet"]] = data["balance"]


def test_first_token_has_most_events() -> None:
    """All tokens get events."""
    keys = Counter(event.key for event in events(1, 2000, token_names(10)))
    assert len(keys) == 10
    assert keys.most_common(1)[0][0] == b"BTC"


def test_events_of_another_catalogue_are_generated() -> None:
    """Their data has no meaning."""
    catalogue = load_catalogue('[[topics]]\nname = "a"\ncategory = "b"\nevents = ["TURNED"]')
    event = EventGenerator(["x"], 1, catalogue).next(NOW_US)
    assert event.topic == "a"
    assert json.loads(event.value)["type"] == "TURNED"


def test_demo_rules_of_catalogue_give_event_fields() -> None:
    """A counter of one name continues over the event types, separately for each token."""
    catalogue = load_catalogue(
        """
        [[topics]]
        name = "a"
        category = "b"
        events = ["GOAL", "CARD"]

        [demo.data.GOAL]
        minute = { count = 1 }
        team = "home"

        [demo.data.CARD]
        minute = { count = 1 }
        """
    )
    generator = EventGenerator(["x", "y"], 1, catalogue)

    def data(token: str, event_type: str) -> dict[str, object]:
        event = generator.event(token, event_type, NOW_US)
        return dict(json.loads(event.value)["data"])

    assert data("x", "GOAL") == {"minute": 1, "team": "home", "pub_us": NOW_US}
    assert data("x", "CARD") == {"minute": 2, "pub_us": NOW_US}
    assert data("y", "CARD") == {"minute": 1, "pub_us": NOW_US}


def test_demo_weights_of_catalogue_give_event_frequencies() -> None:
    """In one round a type occurs as often as its weight; types without a weight occur once."""
    topic = '[[topics]]\nname = "a"\ncategory = "b"\nevents = ["GOAL", "SHOT"]\n'
    catalogue = load_catalogue(topic + "[demo.weights]\nSHOT = 4")
    generator = EventGenerator(["x"], 1, catalogue)
    made = Counter(json.loads(generator.next(NOW_US).value)["type"] for _ in range(10))
    assert made == {"SHOT": 8, "GOAL": 2}


@pytest.mark.parametrize("value_format", ValueFormat)
@pytest.mark.parametrize("key_format", KeyFormat)
@pytest.mark.parametrize("token", ["BTC", 'a"b\\', "Köln", "x" * 128])
def test_generated_record_is_decoded_in_formats_of_its_topic(
    token: str, key_format: KeyFormat, value_format: ValueFormat
) -> None:
    """In each key and value format the decoder finds token, value and event type."""
    catalogue = load_catalogue(
        f"""
        [[topics]]
        name = "a"
        category = "b"
        events = ["TURNED"]
        key = "{key_format}"
        value = "{value_format}"
        """
    )
    event = EventGenerator([token], 1, catalogue).next(NOW_US)
    record = Record("a", 0, 0, NOW_US // 1000, event.key, event.value)
    read = RecordDecoder(catalogue.topics["a"], 10_000).read(record)
    assert isinstance(read, tuple), read
    message, event_type = read
    assert (message.token, event_type) == (token, "TURNED")
    assert json.loads(message.value)["data"]["pub_us"] == NOW_US


@pytest.mark.parametrize(
    ("formats", "key", "value"),
    [
        ("", b"BTC", b"{"),
        ('key = "json"', b'"BTC"', b"{"),
        ('key = "confluent"', b"\0\0\0\0\1BTC", b"{"),
        ('value = "confluent-json"', b"BTC", b"\0\0\0\0\1{"),
    ],
    ids=["plain", "json", "confluent", "confluent-json"],
)
def test_generated_record_has_formats_of_its_topic(formats: str, key: bytes, value: bytes) -> None:
    """Keys and values have the prefixes and quotes of the publishers."""
    topic = f'[[topics]]\nname = "a"\ncategory = "b"\nevents = ["TURNED"]\n{formats}'
    event = EventGenerator(["BTC"], 1, load_catalogue(topic)).next(NOW_US)
    assert event.key == key
    assert event.value.startswith(value)


def test_unknown_token_or_type_raises_key_error() -> None:
    """Unknown tokens and event types raise KeyError."""
    generator = EventGenerator(["BTC"], 1)
    with pytest.raises(KeyError):
        generator.event("ODIN", "TRADE_EXECUTED", NOW_US)
    with pytest.raises(KeyError):
        generator.event("BTC", "TRADE_EXECUTE", NOW_US)


@pytest.mark.parametrize("count", [1, 12, 13, 500])
def test_token_names_are_different_tokens(count: int) -> None:
    """There are as many as requested, all different, and all are valid keys."""
    for names in (token_names(count), token_names(count, ["a", "TOKEN4"])):
        assert len(set(names)) == len(names) == count
    names = token_names(count)
    assert all(map(is_token, names))
