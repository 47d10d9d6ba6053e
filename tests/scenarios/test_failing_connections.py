"""Failings of the earlier server in connections, by their numbers."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.disconnects import ENDINGS, end_connection, every_disconnect_reason
from tests.scenarios.wire import Frame, Op, RawClient, frame, request, split_frames, texts

HEARTBEAT = b'{"type":"heartbeat","id":"early"}'


async def test_failing_14_pongs_keep_a_silent_subscriber_connected(
    odin_scenario: Scenario,
) -> None:
    """A client that only answers pings is still connected after an hour."""
    client = await RawClient.open(odin_scenario)
    await client.subscribe("BTC.trade")
    pings = 0
    with trio.move_on_after(3600):
        while True:
            ping = await client.next()
            assert ping.op is Op.PING
            await client.send(Op.PONG, ping.payload)
            pings += 1
    assert pings >= 110
    odin_scenario.publish("BTC", "trade", "still here")
    assert (await client.next()).json["data"]["data"] == "still here"


async def test_failing_15_connection_inherits_nothing_from_earlier_one(
    odin_scenario: Scenario,
) -> None:
    """Neither subscriptions nor pending messages nor sequence numbers."""
    first = await RawClient.open(odin_scenario, capacity=200)
    await first.subscribe("BTC.trade")
    for number in range(50):
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(1)
    first.stream.break_off()
    odin_scenario.publish("BTC", "trade", "of nobody")
    second = await odin_scenario.connect()
    odin_scenario.publish("BTC", "trade", "of nobody")
    assert await second.silence(10)
    assert (await second.subscribe(channels=["ETH.trade"]))["count"] == 1
    odin_scenario.publish("BTC", "trade", "of nobody")
    odin_scenario.publish("ETH", "trade", "of second")
    message = await second.message()
    assert (message["seq"], message["data"]["data"]) == (1, "of second")
    assert await second.silence(10)


async def test_failing_16_frames_of_several_writers_are_not_mixed(odin_scenario: Scenario) -> None:
    """Messages, acks, pongs and pings over a connection that takes 7 bytes at a time all parse."""
    client = await RawClient.open(odin_scenario, capacity=7)
    await client.subscribe("*.trade")
    received = b""

    async def receive() -> None:
        nonlocal received
        received = await client.rest_bytes()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        for number in range(60):
            odin_scenario.publish(f"T{number}", "trade", "x" * (number * 37 % 400))
            await client.send(Op.PING, b"%d" % number)
            heartbeat = {"type": "heartbeat", "id": number}
            await client.send(Op.TEXT, json.dumps(heartbeat).encode())
            await trio.sleep(0.03)
        await trio.sleep(40)
        await client.send(Op.CLOSE, b"\x03\xe8")
    frames = split_frames(received)
    objects = texts(frames)
    pongs = [frame.payload for frame in frames if frame.op is Op.PONG]
    assert pongs == [b"%d" % number for number in range(60)]
    assert [text["id"] for text in objects if text["type"] == "pong"] == list(range(60))
    assert [text["seq"] for text in objects if "seq" in text] == list(range(1, 61))
    assert Frame(Op.PING, b"") in frames
    assert frames[-1] == Frame(Op.CLOSE, b"\x03\xe8")


@pytest.mark.odin_settings(ws_send_queue_bytes=2048)
async def test_failing_17_closing_slow_client_delays_no_other(odin_scenario: Scenario) -> None:
    """While it is closing, the other clients get each message without delay."""
    others = [await odin_scenario.connect() for _ in range(3)]
    slow = await RawClient.open(odin_scenario, capacity=300)
    for client in others:
        await client.subscribe(channels=["BTC.trade"])
    await slow.subscribe("BTC.trade")
    delays = set()
    closing_seen = False
    for number in range(150):
        await trio.sleep(0.1)
        odin_scenario.publish("BTC", "trade", [number, "x" * 100])
        published = trio.current_time()
        for client in others:
            assert (await client.message())["data"]["data"][0] == number
        delays.add(trio.current_time() - published)
        closing_seen |= any(
            connection.closing is DisconnectReason.SLOW
            for connection in odin_scenario.service.server.connections
        )
    assert closing_seen
    assert len(odin_scenario.service.server.connections) == 3
    assert delays == {0.0}


@every_disconnect_reason
async def test_failing_18_disconnect_is_counted_once_and_leaves_nothing(
    odin_scenario: Scenario, reason: DisconnectReason
) -> None:
    """Whatever the reason, nothing of the connection stays registered."""
    await end_connection(odin_scenario, reason)
    service = odin_scenario.service
    assert service.server.stats.closed == {reason: 1}
    assert service.server.stats.opened == 1
    assert service.server.stats.duration.samples == 1
    assert service.server.connections == set()
    assert service.server.admission.active == 0
    assert len(service.hub.index) == 0
    assert service.server.stats.errors == (reason is DisconnectReason.INTERNAL)


def test_failing_18_each_disconnect_reason_has_a_test() -> None:
    """ENDINGS has an entry for each reason."""
    assert ENDINGS.keys() == set(DisconnectReason)


async def test_failing_18_failed_handshake_is_not_counted_as_connection(
    odin_scenario: Scenario,
) -> None:
    """Rejected, silent and broken handshakes take no place and count no disconnect."""
    rejected = await RawClient.dial(odin_scenario, request("/elsewhere"))
    assert b" 404 " in await rejected.head()
    await RawClient.dial(odin_scenario, b"")
    half = await RawClient.dial(odin_scenario, request()[:40])
    half.stream.break_off()
    await trio.sleep(60)
    server = odin_scenario.service.server
    assert (server.stats.opened, server.admission.active, server.connections) == (0, 0, set())
    assert server.stats.closed.total() == 0
    assert server.admission.rejections == Counter({"not_found": 1, "handshake_timeout": 1})


async def test_failing_19_shutdown_closes_each_client_with_a_reason(
    odin_scenario: Scenario,
) -> None:
    """It ends within 9 s."""
    clients = [await RawClient.open(odin_scenario) for _ in range(30)]
    started = trio.current_time()
    await odin_scenario.drain()
    assert trio.current_time() - started <= 9
    for client in clients:
        assert await client.close_frame() == (1012, "the server is restarting")


@pytest.mark.odin_settings(ws_max_message_bytes=1000)
async def test_failing_20_message_larger_than_limit_closes_1009(odin_scenario: Scenario) -> None:
    """A command of 1,000 bytes is answered; one of 1,001 is not."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.TEXT, HEARTBEAT.ljust(1000))
    assert (await client.next()).json["type"] == "pong"
    await client.send(Op.TEXT, HEARTBEAT.ljust(1001))
    assert (await client.close_frame())[0] == 1009


@pytest.mark.odin_settings(ws_max_message_bytes=1000)
async def test_failing_20_message_limit_counts_all_fragments(odin_scenario: Scenario) -> None:
    """The limit applies to the whole message, not to its largest frame."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.TEXT, b" " * 600, fin=False)
    await client.send(Op.CONTINUATION, b" " * 600, fin=False)
    assert (await client.close_frame())[0] == 1009


@pytest.mark.odin_settings(ws_max_subscriptions=5)
async def test_failing_20_names_over_max_subscriptions_are_rejected(
    odin_scenario: Scenario,
) -> None:
    """Other names take effect; unsubscribing makes room."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(
        channels=["A.trade", "B.trade", "A.ALL", "C.PRICE_ONLY", "D.trade"]
    )
    assert ack["subscribed"] == ["A.trade", "B.trade", "C.PRICE_ONLY", "D.trade"]
    (rejection,) = ack["rejected"]
    assert (rejection["name"], rejection["code"]) == ("A.ALL", "TOO_MANY_SUBSCRIPTIONS")
    assert "5" in rejection["message"]
    assert ack["count"] == 5
    ack = await client.subscribe(channels=["E.trade", "A.trade"])
    assert ([rejection["name"] for rejection in ack["rejected"]], ack["count"]) == (["E.trade"], 5)
    await client.unsubscribe(channels=["A.trade"])
    assert (await client.subscribe(channels=["E.trade"]))["subscribed"] == ["E.trade"]
    odin_scenario.publish("E", "trade")
    assert (await client.message())["channel"] == "E.trade"


async def test_failing_20_token_longer_than_128_bytes_is_rejected(odin_scenario: Scenario) -> None:
    """A token of 128 bytes is accepted."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["x" * 128 + ".trade", "x" * 129 + ".trade"])
    assert ack["subscribed"] == ["x" * 128 + ".trade"]
    assert [rejection["code"] for rejection in ack["rejected"]] == ["INVALID_CHANNEL"]


@pytest.mark.odin_settings(ws_max_connections=1)
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
async def test_failing_20_forwarded_address_does_not_bypass_max_connections(
    odin_scenario: Scenario, header: str
) -> None:
    """A client cannot avoid a limit by naming another address."""
    await odin_scenario.connect()
    client = await RawClient.dial(odin_scenario, request(headers={header: "127.0.0.1"}))
    assert (await client.head()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("cut", [0, 1, 7, len(frame(Op.TEXT, HEARTBEAT))])
async def test_failing_21_bytes_sent_with_the_handshake_are_not_lost(
    odin_scenario: Scenario, cut: int
) -> None:
    """Commands in the same packet as the handshake, complete or not, are answered in order."""
    early = frame(Op.TEXT, HEARTBEAT)
    client = await RawClient.dial(odin_scenario, request() + early + early[:cut])
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    await client.stream.send_all(early[cut:])
    for _ in range(2):
        assert (await client.next()).json["id"] == "early"


async def test_failing_21_handshake_in_single_bytes_is_read(odin_scenario: Scenario) -> None:
    """The command after it too."""
    client = await RawClient.dial(odin_scenario, b"")
    for byte in request() + frame(Op.TEXT, HEARTBEAT):
        await client.stream.send_all(bytes((byte,)))
        await trio.sleep(0.001)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert (await client.next()).json["id"] == "early"


@pytest.mark.odin_settings(ws_max_connections=1)
async def test_failing_22_full_server_answers_503_before_the_upgrade(
    odin_scenario: Scenario,
) -> None:
    """The response has Retry-After and one line of text; then the stream ends."""
    await odin_scenario.connect()
    client = await RawClient.dial(odin_scenario, request())
    status, *fields = (await client.head()).decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert 1 <= int(headers["Retry-After"]) <= 60
    assert headers["Connection"] == "close"
    body = await client.rest_bytes()
    assert body == b"all 1 connections are in use\n"
    assert int(headers["Content-Length"]) == len(body)
