"""A good command is understood: its id is kept, and its names become patterns."""

from __future__ import annotations

import pytest

from odin_ws.protocol.commands import (
    Delivery,
    Heartbeat,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
    decode_command,
)
from odin_ws.protocol.selection import Selection
from odin_ws.records import TopicPartition
from tests.protocol.commands import CATALOGUE, decode, extra, selecting, selection


@pytest.mark.parametrize("command_id", [None, "", "a", "x" * 128, "é" * 128, 0, -5, 2**53])
def test_an_id_is_kept_for_the_answer(command_id: str | int | None) -> None:
    """A client can match answers to commands by whatever it numbers them with."""
    given = {} if command_id is None else {"id": command_id}
    assert decode({"type": "heartbeat", **given}) == Heartbeat(command_id)
    for kind in ("subscribe", "unsubscribe", "resume"):
        command = decode({"type": kind, **given, "data": {"channels": [], **extra(kind)}})
        assert command.id == command_id


def test_an_id_of_null_is_none() -> None:
    """Libraries that write every field may write this one."""
    assert decode({"type": "heartbeat", "id": None}) == Heartbeat(None)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"channels": ["BTC.trade"]}, {"BTC.trade": ("BTC.trade",)}),
        ({"channels": ["a.b.c.trade"]}, {"a.b.c.trade": ("a.b.c.trade",)}),
        ({"channels": ["*.trade"]}, {"*.trade": ("*.trade",)}),
        ({"channels": ["BTC.*", "*.*"]}, {"BTC.*": ("BTC.*",), "*.*": ("*.*",)}),
        (
            {"channels": ["PRICE_ONLY"]},
            {"PRICE_ONLY": ("*.trade", "*.analytics")},
        ),
        (
            {"channels": ["BTC.PRICE_ONLY"]},
            {"BTC.PRICE_ONLY": ("BTC.trade", "BTC.analytics")},
        ),
        ({"topics": ["odin.trades"]}, {"odin.trades": ("*.trade",)}),
        (
            {"topics": ["odin.trades", "odin.social"], "tokens": ["BTC", "a.b"]},
            {
                "odin.trades": ("BTC.trade", "a.b.trade"),
                "odin.social": ("BTC.social", "a.b.social"),
            },
        ),
        ({"bundles": ["PRICE_ONLY"]}, {"PRICE_ONLY": ("*.trade", "*.analytics")}),
        (
            {"bundles": ["PRICE_ONLY"], "tokens": ["BTC"]},
            {"PRICE_ONLY": ("BTC.trade", "BTC.analytics")},
        ),
        # Tokens do not narrow channels, which say their token themselves.
        (
            {"channels": ["ETH.trade"], "topics": ["odin.social"], "tokens": ["BTC"]},
            {"ETH.trade": ("ETH.trade",), "odin.social": ("BTC.social",)},
        ),
        ({"channels": []}, {}),
        ({"channels": [], "topics": [], "bundles": []}, {}),
    ],
)
@selecting
def test_names_are_resolved_to_patterns(
    kind: str, data: dict[str, object], wanted: dict[str, tuple[str, ...]]
) -> None:
    """Each name stands for its patterns, in subscribe and unsubscribe alike."""
    assert selection(kind, **data) == Selection(wanted, ())


def test_failing_10_every_bundle_can_be_subscribed_to() -> None:
    """A bundle is wired: it brings the channels of each of its categories."""
    chosen = selection(bundles=list(CATALOGUE.bundles), tokens=["BTC"])
    assert chosen.wanted == {
        name: tuple(f"BTC.{category}" for category in categories)
        for name, categories in CATALOGUE.bundles.items()
    }


@selecting
def test_a_name_given_twice_counts_once(kind: str) -> None:
    """Repetitions do not multiply with the tokens."""
    chosen = selection(
        kind,
        channels=["BTC.trade"] * 3,
        topics=["odin.trades"] * 3,
        bundles=["PRICE_ONLY"] * 3,
        tokens=["BTC", "ETH", "BTC"],
    )
    assert chosen.wanted == {
        "BTC.trade": ("BTC.trade",),
        "odin.trades": ("BTC.trade", "ETH.trade"),
        "PRICE_ONLY": ("BTC.trade", "ETH.trade", "BTC.analytics", "ETH.analytics"),
    }


def test_one_name_in_two_fields_stands_for_both() -> None:
    """What the first field brought is not lost to the second."""
    chosen = selection(channels=["PRICE_ONLY"], bundles=["PRICE_ONLY"], tokens=["BTC"])
    assert chosen.wanted == {"PRICE_ONLY": ("*.trade", "*.analytics", "BTC.trade", "BTC.analytics")}


@pytest.mark.parametrize(
    ("data", "asked"), [({}, False), ({"positions": False}, False), ({"positions": True}, True)]
)
def test_positions_are_asked_for_by_a_field(data: dict[str, object], *, asked: bool) -> None:
    """They make an ack long, so they come on demand."""
    command = decode({"type": "subscribe", "data": {"channels": ["BTC.trade"], **data}})
    assert isinstance(command, Subscribe)
    assert command.positions is asked


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, {}),
        ({"snapshot": False, "since_ms": None, "delivery": None, "max_rate": None}, {}),
        ({"snapshot": True}, {"snapshot": True}),
        ({"since_ms": 0}, {"since_ms": 0}),
        ({"since_ms": 1_767_609_600_123}, {"since_ms": 1_767_609_600_123}),
        ({"since_ms": 2**53 - 1}, {"since_ms": 2**53 - 1}),
        ({"since_ms": 5, "snapshot": False}, {"since_ms": 5}),
        ({"snapshot": True, "since_ms": None}, {"snapshot": True}),
        ({"delivery": "all"}, {"delivery": Delivery.ALL}),
        ({"delivery": "latest"}, {"delivery": Delivery.LATEST}),
        ({"max_rate": 0.1}, {"max_rate": 0.1}),
        ({"max_rate": 20}, {"max_rate": 20.0}),
        # Rounded down to tenths, so that those who ask for about the same share the work.
        ({"max_rate": 0.7}, {"max_rate": 0.7}),
        ({"max_rate": 1 / 3}, {"max_rate": 0.3}),
        ({"max_rate": 1.99}, {"max_rate": 1.9}),
    ],
    ids=str,
)
def test_a_subscription_may_begin_in_the_past_and_skip(
    data: dict[str, object], expected: dict[str, object]
) -> None:
    """What is not given, or null, is as if nothing was said of it."""
    command = decode({"type": "subscribe", "data": {"channels": ["BTC.trade"], **data}})
    usual = {"snapshot": False, "since_ms": None, "delivery": None, "max_rate": None}
    assert isinstance(command, Subscribe)
    assert {name: getattr(command, name) for name in usual} == usual | expected


def test_a_resume_is_a_subscription_with_positions() -> None:
    """Partitions are numbers, written as JSON's keys are; offsets begin with -1."""
    positions = {"odin.trades": {"0": -1, "11": 2**62}, "odin.social": {}}
    data = {"channels": ["BTC.trade"], "positions": positions, "delivery": "latest"}
    assert decode({"type": "resume", "id": 3, "data": data}) == Resume(
        3,
        Selection({"BTC.trade": ("BTC.trade",)}, ()),
        {TopicPartition("odin.trades", 0): -1, TopicPartition("odin.trades", 11): 2**62},
        Delivery.LATEST,
        frozenset({"odin.trades", "odin.social"}),
    )


def test_a_resume_may_name_topic_ids_and_ask_for_a_snapshot() -> None:
    """Ids come back as the server gave them."""
    ids = {"odin.trades": "1f" * 16}
    data = {"channels": ["BTC.trade"], "positions": {}, "ids": ids, "snapshot": True}
    command = decode({"type": "resume", "data": {**data, "max_rate": 0.55}})
    assert isinstance(command, Resume)
    assert (command.ids, command.snapshot, command.topics) == (ids, True, frozenset())
    assert command.max_rate == 0.5


def test_a_reconnect_has_a_position_for_each_channel() -> None:
    """Who the client says it is matters to nobody."""
    last = {"BTC.trade": "3-1250", "a.b.social": "0-0"}
    expected = {
        "BTC.trade": {TopicPartition("odin.trades", 3): 1250},
        "a.b.social": {TopicPartition("odin.social", 0): 0},
    }
    for data in ({"last_pos": last}, {"last_pos": last, "client_id": "x" * 128}):
        assert decode({"type": "reconnect", "id": "r", "data": data}) == Reconnect("r", expected)


def test_an_original_reconnect_has_an_offset_for_each_topic() -> None:
    """What the earlier server's clients send."""
    last = {"odin.trades": 7, "odin.social": -1}
    data = {"client_id": "me", "last_offset": last}
    assert decode({"type": "reconnect", "data": data}) == Reconnect(None, {}, last)


@pytest.mark.parametrize(
    ("data", "first", "last"),
    [
        ({"from": 1, "to": 1}, 1, 1),
        ({"from": 5, "to": 2**53 - 1}, 5, 2**53 - 1),
        ({"since": 0}, 1, None),
        ({"since": 41}, 42, None),
    ],
    ids=str,
)
def test_a_replay_is_a_range_of_numbers(
    data: dict[str, object], first: int, last: int | None
) -> None:
    """Both ends are included; `since` is the last that the client has."""
    assert decode({"type": "replay", "id": 1, "data": data}) == Resend(1, first, last)


def test_of_a_field_given_twice_the_last_counts() -> None:
    """As in JavaScript and Python, so that what a client's own parser shows is what holds."""
    text = '{"type":"unsubscribe","id":1,"type":"heartbeat","id":2}'
    assert decode_command(text, CATALOGUE) == Heartbeat(2)
    text = (
        '{"type":"unsubscribe","data":{"channels":[7]},'
        '"data":{"channels":["A.trade"],"channels":["B.trade"]}}'
    )
    command = decode_command(text, CATALOGUE)
    assert isinstance(command, Unsubscribe)
    assert list(command.selection.wanted) == ["B.trade"]


@pytest.mark.parametrize("token", ["\u202e", "\uffff", " ", '"', "🜁"])
def test_a_token_may_have_any_character_that_a_key_may_have(token: str) -> None:
    """Kafka's keys are bytes: what a publisher may write, a subscriber may ask for."""
    assert selection(channels=[f"{token}.trade"]).wanted == {f"{token}.trade": (f"{token}.trade",)}


@pytest.mark.parametrize(
    "name",
    ["**", "*", "*.**", "*.*.*", ".*", "*.", "**.trade", "B*.trade", "*.t*", "%.trade", ".."],
)
def test_only_whole_parts_are_wild(name: str) -> None:
    """There is one pattern for everything, which a grant can leave out: no other spelling of it."""
    chosen = selection(channels=[name])
    assert chosen.wanted == ({name: (name,)} if name == "%.trade" else {})
    assert [one.name for one in chosen.rejected] == [name] * (name != "%.trade")
