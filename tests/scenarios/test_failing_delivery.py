"""Failings of the earlier server in delivery, by their numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from odin_ws.testing.scenario import Closed, Scenario, ScenarioClient, open_scenario
from tests.scenarios.protocol_tables import BUNDLES


async def test_failing_01_every_instance_delivers_every_record(odin_scenario: Scenario) -> None:
    """Two instances read one log: subscribers of both get all records."""
    first = odin_scenario
    async with open_scenario(log=first.log) as second:
        clients: list[ScenarioClient] = []
        for instance in (first, first, second, second):
            clients.append(await instance.connect())
            await clients[-1].subscribe(channels=["*.*"])
        for number in range(96):
            first.publish(f"T{number}", "trade", number)
        for client in clients:
            received = {message["data"]["data"] for message in await client.messages(96)}
            assert received == set(range(96))


async def test_failing_02_no_record_is_delivered_twice(odin_scenario: Scenario) -> None:
    """Two instances read one log: a subscriber of either gets each record once."""
    first = odin_scenario
    async with open_scenario(log=first.log) as second:
        clients = [await first.connect(), await second.connect()]
        for client in clients:
            await client.subscribe(channels=["*.trade", "T1.*"], bundles=["ALL"])
        for number in range(96):
            second.publish(f"T{number}", "trade", number)
        for client in clients:
            assert len({message["pos"] for message in await client.messages(96)}) == 96
            assert await client.silence(30)


async def test_failing_05_messages_are_numbered_from_1_without_a_gap(
    odin_scenario: Scenario,
) -> None:
    """`seq` counts the messages of one connection over all its channels."""
    early, late = await odin_scenario.connect(), await odin_scenario.connect()
    await early.subscribe(channels=["*.*"])
    for number in range(5):
        odin_scenario.publish("BTC", "trade", number)
        odin_scenario.publish("ETH", "social", number)
        await trio.sleep(0.02)
    await trio.sleep(1)
    await late.subscribe(channels=["BTC.trade"])
    for number in range(5):
        odin_scenario.publish("BTC", "trade", number)
    assert [message["seq"] for message in await early.messages(15)] == list(range(1, 16))
    assert [message["seq"] for message in await late.messages(5)] == list(range(1, 6))


async def test_failing_06_message_has_channel_and_event_type(odin_scenario: Scenario) -> None:
    """The event type is in the record's value."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    odin_scenario.publish("BTC", "trade", kind="SELL_COMPLETED")
    odin_scenario.publish("ETH", "creation", kind="TOKEN_LISTED")
    received = {
        (message["type"], message["channel"], message["data"]["type"])
        for message in await client.messages(2)
    }
    assert received == {
        ("message", "BTC.trade", "SELL_COMPLETED"),
        ("message", "ETH.creation", "TOKEN_LISTED"),
    }


async def test_failing_07_single_record_is_delivered_at_once(odin_scenario: Scenario) -> None:
    """It does not wait for further records, also after a pause."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    await trio.sleep(60)
    odin_scenario.publish("BTC", "trade")
    published = trio.current_time()
    await client.message()
    assert trio.current_time() == published


@pytest.mark.odin_settings(ws_max_kafka_rate=20)
async def test_failing_08_max_kafka_rate_delays_and_drops_nothing(odin_scenario: Scenario) -> None:
    """300 records at 20 a second take about 15 s, and all are delivered."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    started = trio.current_time()
    for number in range(300):
        odin_scenario.publish(f"T{number % 10}", "trade", number)
    received = {message["data"]["data"] for message in await client.messages(300)}
    assert received == set(range(300))
    assert 14 < trio.current_time() - started < 16


@pytest.mark.odin_settings(ws_max_broadcast_rate=1)
async def test_failing_08_max_broadcast_rate_delays_and_drops_nothing(
    odin_scenario: Scenario,
) -> None:
    """At one write a second, 30 records of 3 s come in a few writes, none missing.

    After a pause three writes may come at once.
    """
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    await trio.sleep(10)
    arrivals: list[float] = []

    async def receive() -> None:
        for number in range(30):
            assert (await client.message())["data"]["data"] == number
            arrivals.append(round(trio.current_time(), 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        for number in range(30):
            odin_scenario.publish("BTC", "trade", number)
            await trio.sleep(0.1)
    writes = sorted(set(arrivals))
    assert 5 < len(writes) < 8
    burst, later = writes[:3], writes[3:]
    assert burst[2] - burst[0] < 0.5
    assert all(after - before > 0.98 for before, after in pairwise([burst[0], *later]))


@pytest.mark.parametrize("token", ["a.b.c", "a.b.trade", "x.", ".x", "v1.2", "BTC.social"])
async def test_failing_09_token_with_dots_has_its_own_channel(
    odin_scenario: Scenario, token: str
) -> None:
    """Subscribers of parts of the token do not get its messages."""
    whole, part = await odin_scenario.connect(), await odin_scenario.connect()
    await whole.subscribe(channels=[f"{token}.trade"])
    await part.subscribe(
        channels=["a.trade", "c.trade", "b.trade", "trade.trade", "x.trade", "BTC.*", "v1.*"]
    )
    odin_scenario.publish(token, "trade")
    assert (await whole.message())["channel"] == f"{token}.trade"
    assert await part.silence(5)


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("form", ["bundles", "channels"])
async def test_failing_10_bundles_can_be_subscribed_to(
    odin_scenario: Scenario, bundle: str, form: str
) -> None:
    """In the fields `bundles` and `channels`; unsubscribing takes effect too."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(**{form: [bundle]})
    assert (ack["subscribed"], ack["rejected"]) == ([bundle], [])
    assert ack["count"] == len(BUNDLES[bundle])
    for category in BUNDLES[bundle]:
        odin_scenario.publish("BTC", category)
    assert len(await client.messages(ack["count"])) == ack["count"]
    ack = await client.unsubscribe(**{form: [bundle]})
    assert (ack["unsubscribed"], ack["count"]) == ([bundle], 0)


async def test_failing_11_backlog_is_not_delivered_as_live(odin_scenario: Scenario) -> None:
    """A server that starts on a log of 500 records delivers only the next one."""
    log = odin_scenario.log
    for number in range(500):
        log.append("odin.trades", f"T{number}".encode(), b'{"old":true}')
    async with open_scenario(log=log) as scenario:
        client = await scenario.connect()
        ack = await client.subscribe(channels=["*.*"], positions=True)
        ends = {(key.topic, str(key.partition)): end for key, end in log.ends().items()}
        assert {
            (topic, partition): offset + 1
            for topic, offsets in ack["positions"].items()
            for partition, offset in offsets.items()
        } == ends
        assert await client.silence(60)
        scenario.publish("BTC", "trade", "new")
        assert (await client.message())["data"]["data"] == "new"


async def test_failing_11_empty_partition_is_read_from_its_first_record(
    odin_scenario: Scenario,
) -> None:
    """The first record of each of 96 partitions is delivered."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    for topic, partition in odin_scenario.log.ends():
        odin_scenario.log.append(topic, b"BTC", b"{}", partition=partition)
    messages = await client.messages(96)
    assert {message["pos"].partition("-")[2] for message in messages} == {"0"}


@pytest.mark.odin_settings(ws_send_queue_bytes=4096)
async def test_failing_12_slow_client_gets_no_gap_before_its_close(
    odin_scenario: Scenario,
) -> None:
    """The close frame has the reason."""
    client = await odin_scenario.connect(capacity=2048)
    await client.subscribe(channels=["BTC.trade"])
    (connection,) = odin_scenario.service.server.connections
    while connection.closing is None:
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(0.1)
    received: list[int] = []

    async def receive() -> None:
        while True:
            received.append((await client.message())["seq"])

    with pytest.raises(Closed, match=r"^1008 slow: "):
        await receive()
    assert received == list(range(1, len(received) + 1))


async def test_failing_13_order_of_a_token_holds_under_load(odin_scenario: Scenario) -> None:
    """500 records of one token among 500 others, in bursts, are in order for each subscriber."""
    clients = [await odin_scenario.connect() for _ in range(3)]
    for client, pattern in zip(clients, ("BTC.trade", "BTC.*", "*.*"), strict=True):
        await client.subscribe(channels=[pattern])
    for number in range(500):
        odin_scenario.publish("BTC", "trade", number)
        odin_scenario.publish(f"T{number % 50}", "social", number)
        if number % 100 == 0:
            await trio.sleep(0.13)
    for client, count in zip(clients, (500, 500, 1000), strict=True):
        ours = [
            message["data"]["data"]
            for message in await client.messages(count)
            if message["channel"] == "BTC.trade"
        ]
        assert ours == list(range(500))
