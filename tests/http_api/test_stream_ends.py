"""Streams of events: how they end, and the limits and reports that they count for."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource, sse_request
from tests.http_api.torn import messages_of, received, torn_states
from tests.scenarios.ops import metric, ops_request
from tests.scenarios.wire import RawClient


async def test_drain_tells_each_client_when_to_come_back(odin_scenario: Scenario) -> None:
    """As `retry`, which an EventSource follows by itself; then the stream ends."""
    sources = [await EventSource.open(odin_scenario, "channels=*.trade") for _ in range(20)]
    for source in sources:
        await source.event()
    odin_scenario.publish("BTC", "trade", 1)
    odin_scenario.stop()
    times = set()
    for source in sources:
        message, advice, close = await source.rest()
        assert message.name == "message"
        assert (advice.name, advice.json["data"]["reason"]) == ("reconnect", "draining")
        assert advice.last_event_id == message.last_event_id
        assert source.parser.retry_ms == advice.json["data"]["after_ms"]
        times.add(source.parser.retry_ms)
        assert close.name == "close"
        assert close.json == {
            "type": "close",
            "code": 1012,
            "label": "draining",
            "reason": "the server is restarting",
        }
    assert len(times) > 5


async def test_stall_of_kafka_sends_a_feed_event(odin_scenario: Scenario) -> None:
    """Notices have the names of their types."""
    early = await EventSource.open(odin_scenario, "channels=*.trade")
    odin_scenario.source.lose_broker()
    notice = await early.named("feed")
    assert notice.json["status"] == "stalled"
    late = await EventSource.open(odin_scenario, "channels=*.trade")
    assert (await late.event()).json == notice.json


@pytest.mark.odin_settings(ws_send_queue_bytes=10_000, ws_write_timeout_seconds=3600)
async def test_slow_reader_is_closed_with_whole_events(odin_scenario: Scenario) -> None:
    """And counted; it resumes behind the last one it has got."""
    source = await EventSource.open(odin_scenario, "channels=*.trade", capacity=1000)
    (connection,) = odin_scenario.service.server.connections
    while connection.closing is None:
        odin_scenario.publish("BTC", "trade", "x" * 400)
        await trio.sleep(0.1)
    *_, message, close = await source.rest()
    assert (message.name, close.name, close.json["label"]) == ("message", "close", "slow")
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.SLOW: 1}


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1024)
async def test_slow_reader_of_the_latest_skips_and_resumes_behind_what_it_has(
    odin_scenario: Scenario,
) -> None:
    """What was skipped is not sent later; what was still held is, once."""
    query = "channels=*.trade&delivery=latest"
    source = await EventSource.open(odin_scenario, query, capacity=1500)
    for n in range(200):
        odin_scenario.publish(("BTC", "ETH", "RUNE")[n % 3], "trade", n)
        await trio.sleep(0.06)
    states = list(torn_states(await received(source)))
    last = messages_of(states[-1].events)
    assert any("skipped" in one for one in last)
    assert {one["data"]["data"] for one in last} >= {197, 198, 199}
    order = [(message["pos"].split("-")[0], int(message["pos"].split("-")[1])) for message in last]
    for state in states[-4:]:
        again = await EventSource.open(odin_scenario, query, last_event_id=state.last_event_id)
        *_, end = torn_states(await received(again))
        known = {message["pos"] for message in messages_of(state.events)}
        rest = {message["pos"] for message in messages_of(end.events)}
        assert known.isdisjoint(rest)
        newest = {message["pos"] for message in last if message["data"]["data"] >= 197}
        assert newest <= known | rest
    assert len(order) == len(set(order))


async def test_reading_client_stays_and_sees_a_heartbeat(odin_scenario: Scenario) -> None:
    """A comment every 30 seconds; that its kernel takes it is life enough."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    with trio.move_on_after(3600):
        await source.named("never")
    assert 115 <= source.parser.comments <= 121
    assert len(odin_scenario.service.server.connections) == 1


@pytest.mark.odin_settings(ws_positions_interval_seconds=3600)
async def test_client_that_confirms_nothing_is_closed(odin_scenario: Scenario) -> None:
    """Its host has vanished: what is sent stays unconfirmed, and 75 seconds later it is gone."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    await source.event()
    await trio.sleep(240)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.NO_PONG: 1}


async def test_client_that_ends_its_side_has_closed(odin_scenario: Scenario) -> None:
    """It says no more than that: the stream ends."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    await source.event()
    await source.stream.send_eof()
    assert await source.rest() == []
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.CLIENT: 1}


@pytest.mark.parametrize("behind", [b"x", sse_request("channels=*.trade"), b"\r\n" * 70_000])
@pytest.mark.parametrize("at_once", [False, True])
async def test_bytes_behind_the_request_end_the_stream(
    odin_scenario: Scenario, behind: bytes, *, at_once: bool
) -> None:
    """A second request or a body is not answered: a proxy would give that to somebody else."""
    client = await RawClient.dial(
        odin_scenario, sse_request("channels=*.trade") + (behind if at_once else b"")
    )
    await client.head()
    if not at_once:
        await client.stream.send_all(behind)
    assert b'"label":"protocol_error"' in await client.rest_bytes()
    await trio.sleep(5)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.PROTOCOL: 1}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (sse_request("channels=*.trade", method="HEAD"), 405),
        (sse_request("channels=*.trade", method="POST"), 405),
        (sse_request("channels=*.trade", {"Content-Length": "5"}), 400),
        (sse_request("channels=*.trade", {"Transfer-Encoding": "chunked"}), 400),
        (sse_request("channels=*.trade", {"Content-Length": "0"}), 200),
        (sse_request("channels=*.trade", path="/sse/"), 404),
        (sse_request("channels=*.trade").replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
        (sse_request("channels=*.trade", {"Last-Event-ID": ""}), 200),
        (sse_request("channels=*.trade", {"Last-Event-ID": "\xff"}), 400),
        (sse_request("channels=*.trade", {"Last-Event-ID": "1", "last-event-id": "1"}), 400),
    ],
)
async def test_requests_of_all_kinds_are_answered(
    odin_scenario: Scenario, data: bytes, status: int
) -> None:
    """HTTP/1.0 gets a stream too: it ends with the connection in any case."""
    client = await RawClient.dial(odin_scenario, data)
    assert int((await client.head()).split()[1]) == status


async def test_log_that_does_not_answer_is_an_error_with_retry(odin_scenario: Scenario) -> None:
    """An event, since the response has begun; the browser comes back with the same id."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    begin = (await source.event()).last_event_id
    odin_scenario.log_reader.fail("gone")
    again = await EventSource.open(
        odin_scenario, "channels=*.trade&since_ms=0", last_event_id=begin.replace("AAA", "AKA")
    )
    error, close = await again.rest()
    assert (error.name, error.json["code"]) == ("error", "NOT_AVAILABLE")
    assert again.parser.retry_ms == error.json["retry_ms"]
    assert close.json["code"] == 1013
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.NOT_AVAILABLE: 1}


@pytest.mark.odin_settings(ws_max_connections=1)
async def test_stream_takes_a_place(odin_scenario: Scenario) -> None:
    """As a WebSocket does; a program that finds none gets 503."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    assert (await EventSource.open(odin_scenario, "channels=*.trade")).status == 503
    source.stream.break_off()
    await trio.sleep(1)
    assert (await EventSource.open(odin_scenario, "channels=*.trade")).status == 200


@pytest.mark.odin_settings(ws_max_connections=1)
async def test_event_source_rejected_by_a_full_server_reconnects(odin_scenario: Scenario) -> None:
    """After another status than 200 a browser would never connect again."""
    await EventSource.open(odin_scenario, "channels=*.trade")
    source = await EventSource.open(
        odin_scenario, "channels=*.trade", headers={"Accept": "text/event-stream"}
    )
    (error,) = await source.rest()
    assert source.status == HTTPStatus.OK
    assert (error.name, error.json["code"], error.json["retry"]) == ("error", "NOT_AVAILABLE", True)
    assert source.parser.retry_ms == error.json["retry_ms"]
    assert 2000 <= error.json["retry_ms"] < 11_000
    assert odin_scenario.service.server.admission.rejections == Counter({"max_connections": 1})


@pytest.mark.odin_settings(ws_max_connections_per_ip=1)
async def test_stream_counts_for_its_address(odin_scenario: Scenario) -> None:
    """With the WebSockets from there."""
    await EventSource.open(odin_scenario, "channels=*.trade", peer="203.0.113.5")
    source = await EventSource.open(odin_scenario, "channels=*.trade", peer="203.0.113.5")
    assert source.status == 429
    other = await EventSource.open(odin_scenario, "channels=*.trade", peer="203.0.113.6")
    assert other.status == 200


async def test_operators_see_streams_among_clients(odin_scenario: Scenario) -> None:
    """In /clients, and in a metric."""
    await odin_scenario.connect()
    source = await EventSource.open(odin_scenario, "channels=*.trade,*.social")
    await source.event()
    listed = (await ops_request(odin_scenario, "/clients")).json()["clients"]
    assert sorted((one["transport"], one["patterns"]) for one in listed) == [
        ("sse", 2),
        ("websocket", 0),
    ]
    assert await metric(odin_scenario, "ws_sse_connections_active") == 1
    assert await metric(odin_scenario, "ws_connections_active") == 2
