"""Live subscriptions with a real server: no record is lost or repeated."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from odin_ws.testing.scenario import Scenario
from odin_ws_client import Subscribed, Subscription
from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import PATIENCE, take
from tests.client_python.shells import SHELLS, Open
from tests.client_python.test_with_the_server import Cut, instances
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

NAMES = ("T0.trade", "T1.trade", "T0.social", "*.social")
CHANNELS = ("T0.trade", "T1.trade", "T0.social", "T1.social")

# It holds for every record here, so it changes nothing but how the client resumes.
FILTER = {"where": {"field": "data", "gte": 0}}

OPERATION = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(CHANNELS)),
    st.tuples(st.sampled_from(["subscribe", "filter", "unsubscribe"]), st.sampled_from(NAMES)),
)


class Application:
    """Follows what it likes, and knows which records it has to get."""

    def __init__(self, client: BaseClient, scenario: Scenario) -> None:
        self._client = client
        self._scenario = scenario
        self._followed = {"T0.trade"}
        self._number = 0
        self._due: set[int] = set()
        self._none_due = trio.Event()
        self.received: dict[str, list[int]] = {}

    async def read(self) -> None:
        """Take messages."""
        async for message in self._client.messages():
            number = message.data["data"]
            self.received.setdefault(message.channel, []).append(number)
            self._due.discard(number)
            if not self._due:
                self._none_due.set()

    async def act(self, operation: str, name: str) -> None:
        """Publish, or change what is followed."""
        if operation == "publish":
            token, category = name.split(".")
            self._number += 1
            if {name, f"*.{category}"} & self._followed:
                self._due.add(self._number)
            self._scenario.publish(token, category, self._number)
        elif operation == "unsubscribe":
            if name in self._followed:
                await self.has_all()
                self._followed.remove(name)
                assert (await self._client.unsubscribe(name)).names == (name,)
        else:
            options: dict[str, Any] = FILTER if operation == "filter" else {}
            assert (await self._client.subscribe(name, **options)).names == (name,)
            self._followed.add(name)

    async def has_all(self) -> None:
        """Wait until everything has come that was published to what is followed."""
        while self._due:
            self._none_due = trio.Event()
            await self._none_due.wait()


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(40))
@given(
    cuts=st.lists(st.builds(Cut, st.integers(100, 4000), st.booleans()), max_size=8),
    operations=st.lists(OPERATION, min_size=10, max_size=40),
    pauses=st.lists(st.sampled_from([0, 0, 0.01, 3]), min_size=40, max_size=40),
)
def test_live_subscriptions_lose_and_repeat_nothing(
    shell: str, cuts: list[Cut], operations: list[tuple[str, str]], pauses: list[float]
) -> None:
    """Each record of a followed name comes once, in order within its channel."""

    async def check(_clock: object) -> None:
        async with (
            instances(SHELLS[shell], 2, cuts) as (servers, scenarios),
            servers.follow(Subscription(["T0.trade"])) as client,
            trio.open_nursery() as nursery,
        ):
            # Whatever is published before the first ack is before the subscription.
            async for item in client:
                if isinstance(item, Subscribed):
                    break
            application = Application(client, scenarios[0])
            nursery.start_soon(application.read)
            with trio.fail_after(PATIENCE):
                for (operation, name), pause in zip(operations, pauses, strict=False):
                    await application.act(operation, name)
                    await trio.sleep(pause)
                await application.has_all()
            for numbers in application.received.values():
                assert numbers == sorted(set(numbers))
            assert (client.gaps, client.lost) == (0, 0)
            nursery.cancel_scope.cancel()

    in_virtual_time(check)


async def test_snapshot_on_a_live_connection_has_the_last_messages(open_client: Open) -> None:
    """Only the last message of each of its channels, then new messages, each once."""
    async with (
        instances(open_client, 1) as (servers, (scenario,)),
        servers.follow(Subscription(["T0.trade"])) as client,
        trio.open_nursery() as nursery,
    ):
        await take(client, Subscribed)
        for number in range(4):
            scenario.publish("T1", "social", number)
        await trio.sleep(1)
        response = await client.subscribe("T1.social", snapshot=True)
        assert response.replayed == 1
        application = Application(client, scenario)
        nursery.start_soon(application.read)
        scenario.publish("T0", "trade", 10)
        scenario.publish("T1", "social", 10)
        with trio.fail_after(PATIENCE):
            await trio.sleep(1)
        assert application.received == {"T0.trade": [10], "T1.social": [3, 10]}
        assert client.positions.keys() == {"odin.trades", "odin.social"}
        assert client.duplicates == 0
        nursery.cancel_scope.cancel()
