"""Events between two time slices of a long command change no result."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.auth.grants import Grant
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS
from odin_ws.time_slice import SLICE_STEPS
from tests.session.conversation import CATALOGUE, House, Talker, open_house

# Some slices' worth.
TOKENS: Final = [f"T{number}" for number in range(4 * SLICE_STEPS * STEP_ITEMS)]
NAMES: Final = [f"{token}.trade" for token in TOKENS]
KEY: Final = TopicPartition("odin.trades", 0)
PAST: Final = {"odin.trades": {"0": -1, "1": -1}}


class Meanwhile:
    """What happens between two time slices: `happen`, at most `maximum` times."""

    def __init__(self, maximum: int = 1 << 30) -> None:
        self.happen: Callable[[], Any] | None = None
        self.read_scheduler = 0
        self.maximum = maximum

    async def turn(self) -> None:
        """Let it happen, and be delivered."""
        await trio.lowlevel.checkpoint()
        self.read_scheduler += 1
        if self.happen is not None and self.read_scheduler <= self.maximum:
            self.happen()
            await trio.sleep(0.01)


def publishing(house: House) -> Callable[[], None]:
    """One more record of the first token; the hub has it before the next time slice."""

    def publish() -> None:
        house.nursery.start_soon(house.publish, TOKENS[0])

    return publish


def offsets(client: Talker) -> list[int]:
    """The offsets of all messages, which are of one partition, in the order they came."""
    return [int(one["pos"].partition("-")[2]) for one in client.received if "seq" in one]


BEGINNINGS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "resume": ("resume", {"channels": NAMES, "positions": PAST}),
    "resume everything": ("resume", {"channels": ["*.*"], "positions": PAST}),
    "since": ("subscribe", {"channels": NAMES, "since_ms": 0}),
    "reconnect": ("reconnect", {"last_pos": dict.fromkeys(NAMES, "0-0")}),
}


@pytest.mark.parametrize("start_position", BEGINNINGS)
async def test_messages_during_a_replay_arrive_once_in_order(
    autojump_clock: MockClock, start_position: str
) -> None:
    """One is published between any two slices until the client is live, and some after."""
    meanwhile = Meanwhile(100)
    async with open_house(patterns=2048, turn=meanwhile.turn) as house:
        await house.publish(*TOKENS)
        meanwhile.happen = publishing(house)
        client = Talker(house)
        kind, data = BEGINNINGS[start_position]
        await client.say_on(kind, 1, **data)
        await trio.sleep(30)
        assert meanwhile.read_scheduler > 3
        await house.publish(TOKENS[0], TOKENS[1])
        await wait_all_tasks_blocked()
    came = offsets(client)
    # A `last_pos` is of a message that the client has.
    begin = 1 if start_position == "reconnect" else 0
    assert came == list(range(begin, house.log.ends()[KEY]))
    assert [one["seq"] for one in client.received if "seq" in one] == list(range(1, len(came) + 1))


async def test_messages_during_a_snapshot_all_arrive(autojump_clock: MockClock) -> None:
    """First each channel's last message, then those of the meantime, then live ones."""
    meanwhile = Meanwhile(100)
    async with open_house(turn=meanwhile.turn) as house:
        await house.publish(*TOKENS)
        meanwhile.happen = publishing(house)
        client = Talker(house)
        await client.say_on("subscribe", channels=["*.trade"], snapshot=True)
        await trio.sleep(30)
        assert meanwhile.read_scheduler > 2
        await house.publish(TOKENS[1])
        await wait_all_tasks_blocked()
    assert offsets(client) == list(range(house.log.ends()[KEY]))


async def test_unsubscribe_during_a_snapshot_ends_its_names(
    autojump_clock: MockClock,
) -> None:
    """None of their messages follow the answer; the others arrive."""
    meanwhile = Meanwhile(1)
    async with open_house(patterns=2048, turn=meanwhile.turn) as house:
        await house.publish(*TOKENS)
        client = Talker(house, takes=0)

        async def unsubscribe() -> None:
            await client.say_on("unsubscribe", 2, channels=NAMES[::2])
            client.take()

        client.say("subscribe", 1, channels=NAMES[:64], snapshot=True)
        await wait_all_tasks_blocked()
        client.take(100)
        await unsubscribe()
        await trio.sleep(10)
        kinds = client.kinds
        gone = kinds.index("unsubscription_ack")
        tokens = {one["channel"] for one in client.received[gone + 1 :] if "seq" in one}
        assert tokens.isdisjoint(NAMES[::2])


@pytest.mark.parametrize("how", ["unsubscribe", "restrict"])
async def test_waiting_command_ended_while_it_begins_is_ended(
    autojump_clock: MockClock, how: str
) -> None:
    """Its names are unsubscribed, or lose their grant, between two of its slices."""
    meanwhile = Meanwhile()
    async with open_house(patterns=2048, turn=meanwhile.turn) as house:
        house.log_reader.hold()
        client = Talker(house)
        await house.publish("BTC")
        client.say("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        # Its answer waits for the log, so that this waits for its turn.
        await client.say_on("subscribe", 2, channels=NAMES)
        ending = trio.Event()

        async def end() -> None:
            if how == "unsubscribe":
                await client.say_on("unsubscribe", 3, channels=NAMES)
            else:
                client.grant = attrs.evolve(CATALOGUE_GRANT, allowed={"trade": frozenset({"BTC"})})
                await client.restrict()
            ending.set()

        def happen() -> None:
            # Once the first is live, the second is being carried out.
            if client.subscriber.patterns:
                meanwhile.happen = None
                house.nursery.start_soon(end)

        meanwhile.happen = happen
        house.log_reader.release()
        with trio.fail_after(60):
            await ending.wait()
        await wait_all_tasks_blocked()
        assert client.subscriber.patterns <= {"BTC.trade"}
        assert client.kinds[-1] == "unsubscription_ack"


CATALOGUE_GRANT: Final = Grant(dict.fromkeys(CATALOGUE.categories, frozenset({"*"})))
