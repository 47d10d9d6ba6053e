"""Events between two time slices of a long command do not change its result."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.auth.grants import Grant
from odin_ws.log_reader import TimePositions
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS
from odin_ws.time_slice import SLICE_STEPS
from tests.session.conversation import CATALOGUE, FakeClient, Harness, open_harness

# Enough tokens for a command of four time slices.
TOKENS: Final = [f"T{number}" for number in range(4 * SLICE_STEPS * STEP_ITEMS)]
NAMES: Final = [f"{token}.trade" for token in TOKENS]
KEY: Final = TopicPartition("odin.trades", 0)
PAST: Final = {"odin.trades": {"0": -1, "1": -1}}


class ConcurrentWork:
    """Calls `happen` after each time slice, at most `maximum` times."""

    def __init__(self, maximum: int = 1 << 30) -> None:
        self.happen: Callable[[], Any] | None = None
        self.slices = 0
        self.maximum = maximum

    async def turn(self) -> None:
        """Call `happen`, and wait until the hub has dispatched its records."""
        await trio.lowlevel.checkpoint()
        self.slices += 1
        if self.happen is not None and self.slices <= self.maximum:
            self.happen()
            await trio.sleep(0.01)


def publishing(harness: Harness) -> Callable[[], None]:
    """Return a function that publishes one record of the first token before the next time slice."""

    def publish() -> None:
        harness.nursery.start_soon(harness.publish, TOKENS[0])

    return publish


def offsets(client: FakeClient) -> list[int]:
    """Offsets of all messages, in the order of arrival; all are from one partition."""
    return [
        int(message["pos"].partition("-")[2]) for message in client.received if "seq" in message
    ]


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
    """A record is published between any two slices until the client is live, and two afterwards."""
    meanwhile = ConcurrentWork(100)
    async with open_harness(patterns=2048, turn=meanwhile.turn) as harness:
        await harness.publish(*TOKENS)
        meanwhile.happen = publishing(harness)
        client = FakeClient(harness)
        kind, data = BEGINNINGS[start_position]
        await client.send_long(kind, 1, **data)
        await trio.sleep(30)
        assert meanwhile.slices > 3
        await harness.publish(TOKENS[0], TOKENS[1])
        await wait_all_tasks_blocked()
    came = offsets(client)
    # A client with a `last_pos` has the message at that position.
    begin = 1 if start_position == "reconnect" else 0
    assert came == list(range(begin, harness.log.ends()[KEY]))
    assert [message["seq"] for message in client.received if "seq" in message] == list(
        range(1, len(came) + 1)
    )


async def test_messages_during_a_snapshot_all_arrive(autojump_clock: MockClock) -> None:
    """First each channel's last message, then messages published meanwhile, then live ones."""
    meanwhile = ConcurrentWork(100)
    async with open_harness(turn=meanwhile.turn) as harness:
        await harness.publish(*TOKENS)
        meanwhile.happen = publishing(harness)
        client = FakeClient(harness)
        await client.send_long("subscribe", channels=["*.trade"], snapshot=True)
        await trio.sleep(30)
        assert meanwhile.slices > 2
        await harness.publish(TOKENS[1])
        await wait_all_tasks_blocked()
    assert offsets(client) == list(range(harness.log.ends()[KEY]))


async def test_unsubscribe_during_a_snapshot_ends_its_names(
    autojump_clock: MockClock,
) -> None:
    """No message of an unsubscribed name follows the response; the other names get theirs."""
    meanwhile = ConcurrentWork(1)
    async with open_harness(patterns=2048, turn=meanwhile.turn) as harness:
        await harness.publish(*TOKENS)
        client = FakeClient(harness, room=0)

        async def unsubscribe() -> None:
            await client.send_long("unsubscribe", 2, channels=NAMES[::2])
            client.make_room()

        client.send("subscribe", 1, channels=NAMES[:64], snapshot=True)
        await wait_all_tasks_blocked()
        client.make_room(100)
        await unsubscribe()
        await trio.sleep(10)
        kinds = client.kinds
        gone = kinds.index("unsubscription_ack")
        tokens = {message["channel"] for message in client.received[gone + 1 :] if "seq" in message}
        assert tokens
        assert tokens <= set(NAMES[1:64:2])


@pytest.mark.parametrize("how", ["unsubscribe", "restrict"])
async def test_waiting_command_ended_while_it_begins_is_ended(
    autojump_clock: MockClock, how: str
) -> None:
    """Its names are unsubscribed, or lose their grant, between two of its time slices."""
    meanwhile = ConcurrentWork()
    async with open_harness(patterns=2048, turn=meanwhile.turn) as harness:
        harness.log_reader.hold()
        client = FakeClient(harness)
        await harness.publish("BTC")
        client.send("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        # The first command waits for the log reader, so the second waits for the first.
        await client.send_long("subscribe", 2, channels=NAMES)
        ending = trio.Event()

        async def end() -> None:
            if how == "unsubscribe":
                await client.send_long("unsubscribe", 3, channels=NAMES)
            else:
                client.grant = attrs.evolve(CATALOGUE_GRANT, allowed={"trade": frozenset({"BTC"})})
                await client.restrict()
            ending.set()

        def happen() -> None:
            # The second command runs as soon as the first one is live.
            if client.subscriber.patterns:
                meanwhile.happen = None
                harness.nursery.start_soon(end)

        meanwhile.happen = happen
        harness.log_reader.release()
        with trio.fail_after(60):
            await ending.wait()
        await wait_all_tasks_blocked()
        assert client.subscriber.patterns <= {"BTC.trade"}
        assert client.kinds[-1] == "unsubscription_ack"


CATALOGUE_GRANT: Final = Grant(dict.fromkeys(CATALOGUE.categories, frozenset({"*"})))


async def test_kafka_looks_up_a_time_after_a_turn(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd that begins at a hundred times does not send a hundred requests at once."""
    turns, lookups = 0, 0

    async def turn() -> None:
        nonlocal turns
        await trio.sleep(0.1)
        turns += 1

    async with open_harness(turn=turn) as harness:
        look_up = harness.log_reader.positions_at

        async def count(*arguments: Any, **more: Any) -> TimePositions:
            nonlocal lookups
            lookups += 1
            assert turns >= lookups
            return await look_up(*arguments, **more)

        monkeypatch.setattr(harness.log_reader, "positions_at", count)
        clients = [FakeClient(harness) for _ in range(20)]
        for since, client in enumerate(clients):
            client.send("subscribe", 1, channels=["*.trade"], since_ms=since)
        await wait_all_tasks_blocked()
        assert lookups == 0
        await trio.sleep(10)
        assert lookups == len(clients)
    assert [client.kinds for client in clients] == [["subscription_ack"]] * len(clients)
