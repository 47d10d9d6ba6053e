"""What a client asks for is begun in turn, held to its limits, and ended whenever it says so."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import HistoryEnd
from tests.connection.talking import (
    CATALOGUE,
    GRACE,
    HELD,
    MARK,
    STUCK,
    House,
    Talker,
    open_house,
)

NOTHING = {"odin.trades": {"0": -1}}

# Commands that begin in the past; what each is answered.
BEGINNINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "resume": ("resume", {"channels": ["BTC.trade"], "positions": NOTHING}, "resume_ack"),
    "snapshot": ("subscribe", {"channels": ["BTC.trade"], "snapshot": True}, "subscription_ack"),
    "since": ("subscribe", {"channels": ["BTC.trade"], "since_ms": 0}, "subscription_ack"),
    "reconnect": ("reconnect", {"last_pos": {"BTC.trade": "0-0"}}, "reconnect_ack"),
    "replay": ("replay", {"since": 0}, "replay_complete"),
}


async def begin_a_long_replay(house: House) -> Talker:
    """A client that resumes `BTC.trade`, of which the log has two, and does not answer."""
    client = Talker(house)
    await house.publish("BTC", "BTC")
    house.archive.hold()
    client.say("resume", 1, channels=["BTC.trade"], positions=NOTHING)
    await wait_all_tasks_blocked()
    assert client.received == []
    return client


# ---- in turn


async def test_what_takes_no_time_is_done_at_once(autojump_clock: MockClock) -> None:
    """A plain subscription is live, and answered, before anything else can happen."""
    async with open_house() as house:
        client = Talker(house)
        client.say("subscribe", 1, channels=["BTC.trade"], positions=True)
        client.say("unsubscribe", 2, channels=["BTC.trade"])
        assert client.kinds == ["subscription_ack", "unsubscription_ack"]
        assert client.tasks == 0


async def test_what_begins_meanwhile_waits_for_the_replay(autojump_clock: MockClock) -> None:
    """Each in its turn, answered in the order they came."""
    async with open_house(retention_bytes=0) as house:
        client = await begin_a_long_replay(house)
        client.say("subscribe", 2, channels=["ETH.trade"])
        client.say("replay", 3, since=0)
        client.say("resume", 4, channels=["DOGE.trade"], positions=NOTHING)
        client.say("subscribe", 5, channels=["SOL.trade"])
        await house.publish("ETH", "BTC")
        assert client.received == []
        house.archive.release()
        await wait_all_tasks_blocked()
        await house.publish("BTC", "ETH", "DOGE", "SOL")
    assert client.kinds == [
        "resume_ack",
        *["0-0", "0-1", "0-3"],
        "subscription_ack",
        "replay_incomplete",
        *["resume_ack", "replay_complete"],
        "subscription_ack",
        *["0-4", "0-5", "0-6", "0-7"],
    ]
    answers = [one for one in client.received if "seq" not in one]
    assert [one["id"] for one in answers] == [1, 2, 3, 4, 4, 5]
    assert [one.get("seq") for one in client.received if "seq" in one] == list(range(1, 8))
    # All of it was one task's work.
    assert client.tasks == 1


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_only_so_many_may_wait(autojump_clock: MockClock, beginning: str) -> None:
    """100 wait for the replay; one more is refused and may be tried again; the others are done."""
    kind, data, _ = BEGINNINGS[beginning]
    async with open_house(retention_bytes=0) as house:
        client = await begin_a_long_replay(house)
        for number in range(100):
            client.say("subscribe", number, channels=["ETH.trade"])
        client.say(kind, 100, **data)
        await wait_all_tasks_blocked()
        (refused,) = client.received
        assert refused["id"] == 100
        assert (refused["type"], refused["code"]) == (
            ("reconnect_error", "rate_limited")
            if kind == "reconnect"
            else ("error", "RATE_LIMIT_EXCEEDED")
        )
        assert refused.get("retry", True)
        assert 2000 <= refused["retry_ms"] <= 10_000
        house.archive.release()
        await wait_all_tasks_blocked()
        assert client.kinds[-100:] == ["subscription_ack"] * 100
        assert (await client.ask("subscribe", channels=["ETH.trade"]))["count"] == 2


async def test_one_that_is_refused_in_its_turn_does_not_stop_the_next(
    autojump_clock: MockClock,
) -> None:
    """What is wrong with it is only known then."""
    async with open_house(retention_bytes=0, patterns=2) as house:
        client = await begin_a_long_replay(house)
        client.say("reconnect", 2, last_pos={"ETH.trade": "0-0", "SOL.trade": "0-0"})
        client.say("subscribe", 3, channels=["ETH.trade"])
        house.archive.release()
        await wait_all_tasks_blocked()
    assert client.kinds == ["resume_ack", "0-0", "0-1", "reconnect_error", "subscription_ack"]
    assert client.received[3]["id"] == 2


@pytest.mark.parametrize("beginning", ["resume", "since", "reconnect"])
async def test_where_the_log_does_not_answer_nothing_begins(
    autojump_clock: MockClock, beginning: str
) -> None:
    """After half a minute the client is told so, and that it may try again; others go on."""
    kind, data, _ = BEGINNINGS[beginning]
    async with open_house(retention_bytes=0) as house:
        await house.publish("BTC", "BTC")
        house.archive.fail()
        client = Talker(house)
        client.say(kind, 1, **data)
        client.say("subscribe", 2, channels=["ETH.trade"])
        await trio.sleep(40)
        refused, ack = client.received
        assert refused["id"] == 1
        assert (refused["type"], refused["code"]) == (
            ("reconnect_error", "rate_limited")
            if kind == "reconnect"
            else ("error", "NOT_AVAILABLE")
        )
        assert refused.get("retry", True)
        assert 2000 <= refused["retry_ms"] <= 10_000
        assert (ack["type"], ack["count"]) == ("subscription_ack", 1)
        assert house.hub.patterns == 1
        assert house.context.stats.not_now == 1


async def test_positions_are_told_once_they_are_known(autojump_clock: MockClock) -> None:
    """At a start the past is read first; who does not ask where it begins is live at once."""
    async with open_house(filled=False) as house:
        client = Talker(house)
        client.say("subscribe", 1, channels=["ETH.trade"])
        client.say("subscribe", 2, channels=["BTC.trade"], positions=True)
        await house.publish("BTC")
        assert client.kinds == ["subscription_ack"]
        await house.feeder.publish(HistoryEnd())
        assert client.kinds == ["subscription_ack"] * 2
        ack = client.received[1]
        assert ack["positions"] == {"odin.trades": {"0": 0, "1": -1}}
        assert ack["categories"] == {"trade": "odin.trades"}
        await house.publish("BTC")
    assert client.kinds[2:] == ["0-1"]


# ---- ending what has not begun


@pytest.mark.parametrize("begun", [True, False])
async def test_what_is_on_its_way_can_be_unsubscribed(
    autojump_clock: MockClock, *, begun: bool
) -> None:
    """Whether or not its task has had a turn: nothing of it comes after the answer."""
    async with open_house(retention_bytes=0) as house:
        await house.publish("BTC", "ETH")
        house.archive.hold()
        client = Talker(house)
        client.say("resume", 1, channels=["BTC.trade", "ETH.trade"], positions=NOTHING)
        if begun:
            await wait_all_tasks_blocked()
        client.say("unsubscribe", 2, channels=["BTC.trade", "SOL.trade"])
        (ack,) = client.received
        assert (ack["unsubscribed"], ack["count"]) == (["BTC.trade"], 1)
        assert [one["name"] for one in ack["rejected"]] == ["SOL.trade"]
        house.archive.release()
        await house.publish("BTC", "ETH")
    assert client.kinds == ["unsubscription_ack", "resume_ack", "0-1", "0-3"]
    assert house.hub.patterns == 1


async def test_unsubscribe_of_a_waiting_name_is_answered_at_once(
    autojump_clock: MockClock,
) -> None:
    """What waits is carried out without the name, and a later command may name it again."""
    async with open_house(retention_bytes=0) as house:
        client = await begin_a_long_replay(house)
        client.say("subscribe", 2, channels=["ETH.trade", "SOL.trade"])
        client.say("unsubscribe", 3, channels=["ETH.trade", "DOGE.trade"])
        client.say("unsubscribe", 4, channels=["BTC.trade"])
        client.say("subscribe", 5, channels=["ETH.*"])
        ended, _ = client.received
        assert (ended["id"], ended["unsubscribed"]) == (3, ["ETH.trade"])
        assert [one["name"] for one in ended["rejected"]] == ["DOGE.trade"]
        house.archive.release()
        await wait_all_tasks_blocked()
        assert [one["id"] for one in client.received] == [3, 4, 1, 2, 5]
        assert client.received[3]["subscribed"] == ["SOL.trade"]
        assert client.subscriber.patterns == {"SOL.trade", "ETH.*"}


async def test_of_what_was_held_already_the_rest_is_dropped(autojump_clock: MockClock) -> None:
    """A client that reads slowly and unsubscribes is not sent what it does not want any more."""
    async with open_house(retention_bytes=0) as house:
        await house.publish(*["BTC"] * 20, *["ETH"] * 20)
        client = Talker(house, takes=100)
        channels = ["BTC.trade", "ETH.trade"]
        client.say("resume", 1, channels=channels, positions={"odin.trades": {"0": -1}})
        await wait_all_tasks_blocked()
        client.say("unsubscribe", 2, channels=["ETH.trade"])
        client.take()
        await wait_all_tasks_blocked()
        await house.publish("ETH", "BTC")
    after = client.kinds[client.kinds.index("unsubscription_ack") :]
    assert not {"0-20", "0-39", "0-40"} & set(after)
    assert client.kinds[-1] == "0-41"


# ---- limits


@pytest.mark.parametrize("beginning", ["resume", "snapshot", "since"])
async def test_there_is_room_for_so_many_patterns(
    autojump_clock: MockClock, beginning: str
) -> None:
    """Names are taken as long as there is; those live already take no more of it."""
    kind, data, answer = BEGINNINGS[beginning]
    channels = ["BTC.trade", "ETH.trade", "BTC.PRICE_ONLY", "SOL.trade", "DOGE.trade"]
    async with open_house(patterns=5) as house:
        client = Talker(house)
        await client.ask("subscribe", channels=["BTC.trade", "OTHER.trade"])
        ack = await client.ask(kind, 1, **data | {"channels": channels})
        assert ack["type"] == answer
        assert ack["subscribed"] == ["BTC.trade", "ETH.trade", "BTC.PRICE_ONLY", "SOL.trade"]
        assert [(one["name"], one["code"]) for one in ack["rejected"]] == [
            ("DOGE.trade", "TOO_MANY_SUBSCRIPTIONS")
        ]
        assert ack["count"] == len(client.subscriber.patterns) == 5


@pytest.mark.parametrize("count", [3, 4])
async def test_a_reconnect_has_room_for_all_or_none(autojump_clock: MockClock, count: int) -> None:
    """Its answer knows no names: 4 patterns with the one that is live are all there may be."""
    async with open_house(patterns=4) as house:
        client = Talker(house)
        await house.publish("BTC")
        await client.ask("subscribe", channels=["BTC.trade"])
        last = {f"T{number}.trade": "0-0" for number in range(count)} | {"BTC.trade": "0-0"}
        said = await client.ask("reconnect", 7, last_pos=last)
        assert said["id"] == 7
        if count == 3:
            assert said["type"] == "reconnect_ack"
            assert len(client.subscriber.patterns) == 4
        else:
            assert (said["type"], said["code"]) == ("reconnect_error", "invalid_request")
            assert client.subscriber.patterns == {"BTC.trade"}


async def test_an_offset_without_a_partition_is_refused(autojump_clock: MockClock) -> None:
    """Where a topic has several it says nothing; the original's clients are told what to send."""
    async with open_house() as house:
        client = Talker(house)
        said = await client.ask("reconnect", 9, last_offset={"odin.trades": 3})
        assert (said["type"], said["id"], said["code"]) == ("reconnect_error", 9, "invalid_request")
        assert said["message"].startswith("data.last_offset.odin.trades: ")
        assert house.hub.patterns == 0


async def test_what_was_sent_does_not_come_again(autojump_clock: MockClock) -> None:
    """Neither by its own name nor by a pattern around it; the end of the replay is told."""
    async with open_house() as house:
        client = Talker(house)
        await client.ask("subscribe", channels=["BTC.trade"])
        await house.publish("BTC", "ETH")
        await client.ask("resume", channels=["BTC.trade", "*.trade"], positions=NOTHING)
        await house.publish("BTC", "ETH")
    assert client.kinds == [
        *["subscription_ack", "0-0"],
        *["resume_ack", "0-1", "replay_complete"],
        *["0-2", "0-3"],
    ]
    assert client.received[2]["replayed"] == 1


# ---- delivery


@pytest.mark.parametrize("beginning", ["resume", "snapshot"])
async def test_delivery_can_be_changed_at_any_time(
    autojump_clock: MockClock, beginning: str
) -> None:
    """By every command that subscribes; one that does not say it leaves it as it is."""
    kind, data, _ = BEGINNINGS[beginning]
    async with open_house() as house:
        client = Talker(house)
        seen = []
        for delivery in (None, "latest", None, "latest", "all", None):
            await client.ask(kind, **data, delivery=delivery)
            conflated = client.subscriber.conflation is not None
            seen.append(conflated)
    assert seen == [False, True, True, True, False, False]


async def test_who_asked_for_the_latest_is_not_slow_while_it_takes_something(
    autojump_clock: MockClock,
) -> None:
    """With more waiting than the mark the rest is replaced; it comes when there is room."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        for _ in range(20):
            await house.publish("BTC", "ETH")
            await trio.sleep(STUCK - 1)
            client.take(1)
        assert MARK - 20 < client.outbox.backlog < 2 * MARK
        assert not client.slow
        client.take()
        await wait_all_tasks_blocked()
    *most, before, last = client.received[1:]
    assert [one["pos"] for one in (before, last)] == ["0-38", "0-39"]
    assert before["skipped"] == before["seq"] - most[-1]["seq"] - 1
    assert last["seq"] == 40


async def test_who_asked_for_the_latest_and_takes_nothing_is_slow(
    autojump_clock: MockClock,
) -> None:
    """It would stay for ever: whether it answers pings says nothing of that."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        await house.publish("BTC")
        await trio.sleep(STUCK - 1)
        assert not client.slow
        await trio.sleep(2)
        assert client.slow
        client.take()


async def test_the_latest_of_too_many_channels_makes_slow(autojump_clock: MockClock) -> None:
    """What is held back replaces nothing where each message is of another channel."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        numbers = iter(range(1000))
        while not client.outbox.backlog > MARK:
            await house.publish("BTC")
        held = 0
        while not client.slow:
            await house.publish(f"T{next(numbers)}")
            held += len(house.value)
        assert HELD < held <= HELD + len(house.value)
        client.take()


async def test_one_large_command_may_wait_alone(autojump_clock: MockClock) -> None:
    """It is bounded by its size already."""
    positions = {topic: {str(n): 0 for n in range(600)} for topic in CATALOGUE.topics}
    async with open_house() as house:
        client = Talker(house)
        house.archive.hold()
        client.say("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        client.say("resume", 2, channels=["*.*"], positions=positions)
        client.say("resume", 3, channels=["*.*"], positions=positions)
        assert [one["id"] for one in client.received] == [3]


async def test_names_may_stand_for_the_same_at_the_limit(autojump_clock: MockClock) -> None:
    """Also for what the client has already."""
    async with open_house(patterns=1) as house:
        client = Talker(house)
        for number in (1, 2):
            ack = await client.ask(
                "subscribe", number, channels=["*.trade"], topics=["odin.trades"]
            )
            assert (ack["subscribed"], ack["count"]) == (["*.trade", "odin.trades"], 1)


async def test_what_waits_behind_a_replay_is_bounded(autojump_clock: MockClock) -> None:
    """In all that its names stand for, not only in commands; one alone may be as large as ever."""
    async with open_house(patterns=5000) as house:
        client = Talker(house)
        house.archive.hold()
        client.say("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        tokens = [f"T{number}" for number in range(1000)]
        for number in range(2, 8):
            client.say("subscribe", number, topics=["odin.trades"], tokens=tokens)
        client.say("subscribe", 9, channels=["BTC.trade"])
        refused = [(one["id"], one["code"], one["retry"]) for one in client.received]
        assert refused == [(number, "RATE_LIMIT_EXCEEDED", True) for number in (6, 7)]


async def test_who_asks_for_all_again_gets_first_what_was_held(autojump_clock: MockClock) -> None:
    """From then on nothing is replaced any more, and it may be slow again."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", 1, channels=["*.trade"], delivery="latest")
        await house.publish(*["BTC"] * 10)
        await house.publish(*["BTC"] * 10)
        client.say("subscribe", 2, channels=["*.trade"], delivery="all")
        for _ in range(3):
            await house.publish("BTC")
        await trio.sleep(GRACE + 1)
        assert client.slow
        client.take()
        await wait_all_tasks_blocked()
    assert client.kinds[-5:] == ["0-19", "subscription_ack", "0-20", "0-21", "0-22"]
