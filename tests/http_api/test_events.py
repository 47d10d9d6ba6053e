"""GET /sse: a subscription as Server-Sent Events."""

from __future__ import annotations

import json
from collections import Counter
from http import HTTPStatus

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource, sse_request
from tests.http_api.torn import messages_of, received, torn_states
from tests.scenarios.ops import ask, metric
from tests.scenarios.wire import RawClient


async def refused(scenario: Scenario, query: str, **how: str) -> tuple[int, str]:
    """Status and text of the answer to a request that gets no stream."""
    source = await EventSource.open(scenario, query, **how)  # type: ignore[arg-type]
    await source.rest()
    return source.status, source.content


# ---- what is asked for


async def test_stream_begins_with_what_proxies_and_browsers_need(odin_scenario: Scenario) -> None:
    """No cache, no buffer, no compression; when to come back; the ack with an id."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    assert (source.status, source.headers) == (
        200,
        {
            "content-type": "text/event-stream",
            "cache-control": "no-store, no-transform",
            "connection": "close",
            "x-accel-buffering": "no",
            "vary": "Origin",
        },
    )
    ack = await source.event()
    assert ack.name == ack.json["type"] == "subscription_ack"
    assert ack.last_event_id
    assert source.parser.retry_ms is not None
    assert 1000 <= source.parser.retry_ms <= 5000


@pytest.mark.parametrize(
    "query",
    [
        "channels=BTC.trade,*.social&topics=odin.balances",
        "channels=BTC.trade&channels=*.social&topics=odin.balances",
        "channels=BTC.trade%2C*.social,&topics=odin.balances&topics=odin.balances",
    ],
)
async def test_names_are_those_of_subscribe(odin_scenario: Scenario, query: str) -> None:
    """With commas or repeated."""
    source = await EventSource.open(odin_scenario, query)
    ack = (await source.event()).json
    assert ack["subscribed"] == ["BTC.trade", "*.social", "odin.balances"]


async def test_bundles_and_tokens_narrow_as_in_subscribe(odin_scenario: Scenario) -> None:
    """Two tokens of a bundle with two categories are four patterns."""
    source = await EventSource.open(odin_scenario, "bundles=PRICE_ONLY&tokens=BTC,ETH")
    assert (await source.event()).json["count"] == 4


async def test_messages_are_those_of_a_websocket(odin_scenario: Scenario) -> None:
    """The same JSON as the default event; in a batch as an event of that name."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"])
    single = await EventSource.open(odin_scenario, "channels=*.trade")
    batch = await EventSource.open(odin_scenario, "channels=*.trade&frames=batch")
    await single.event()
    await batch.event()
    for n in range(3):
        odin_scenario.publish("BTC", "trade", n)
    expected = await client.messages(3)
    assert [one.json for one in await single.messages(3)] == expected
    event = await batch.event()
    assert (event.name, event.json["seq"]) == ("batch", 1)
    assert [one["pos"] for one in event.json["messages"]] == [one["pos"] for one in expected]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\n"])
async def test_line_breaks_of_a_value_are_no_end_of_an_event(
    odin_scenario: Scenario, end: str
) -> None:
    """The publisher's JSON may be written on several lines."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    await source.event()
    value = end.join(["{", ' "type":', '"TRADE_EXECUTED",', '"data": "id: 1"', "}"])
    odin_scenario.log.append("odin.trades", b"BTC", value.encode())
    odin_scenario.publish("BTC", "trade", 2)
    first, second = await source.messages(2)
    assert first.json["data"] == json.loads(value)
    assert second.json["seq"] == 2


async def test_snapshot_comes_first(odin_scenario: Scenario) -> None:
    """The last message of each channel, marked as replayed."""
    for n in range(3):
        odin_scenario.publish("BTC", "trade", n)
        odin_scenario.publish("ETH", "trade", n)
    await trio.sleep(1)
    source = await EventSource.open(odin_scenario, "channels=*.trade&snapshot=true")
    assert (await source.event()).json["replayed"] == 2
    found = [one.json for one in await source.messages(2)]
    last = {one["channel"]: one["data"]["data"] for one in found}
    assert last == {"BTC.trade": 2, "ETH.trade": 2}
    assert all(one["replay"] for one in found)


async def test_snapshot_torn_off_comes_again_and_a_whole_one_does_not(
    odin_scenario: Scenario,
) -> None:
    """The id says whether it was whole; what is new comes once in any case."""
    tokens = ["BTC", "ETH", "RUNE", "SOL"]
    for token in tokens:
        odin_scenario.publish(token, "trade", token)
    await trio.sleep(1)
    query = "channels=*.trade&snapshot=true"
    states = list(torn_states(await received(await EventSource.open(odin_scenario, query))))
    odin_scenario.publish("BTC", "trade", "new")
    await trio.sleep(1)
    for state in states:
        if not state.last_event_id:
            continue
        again = await EventSource.open(odin_scenario, query, last_event_id=state.last_event_id)
        *_, end = torn_states(await received(again))
        found = [one["data"]["data"] for one in messages_of(end.events)]
        is_whole = len(messages_of(state.events)) == len(tokens)
        assert sorted(found) == (["new"] if is_whole else ["ETH", "RUNE", "SOL", "new"])


async def test_since_ms_begins_in_the_past(odin_scenario: Scenario) -> None:
    """A browser that comes back resumes, and does not begin there again."""
    odin_scenario.publish("BTC", "trade", 1)
    odin_scenario.publish("BTC", "trade", 2)
    query = "channels=*.trade&since_ms=0"
    source = await EventSource.open(odin_scenario, query)
    first, second = await source.messages(2)
    assert (first.json["data"]["data"], second.json["data"]["data"]) == (1, 2)
    again = await EventSource.open(odin_scenario, query, last_event_id=first.last_event_id)
    assert [one.json["data"]["data"] for one in await again.messages(1)] == [2]


async def test_filter_is_that_of_subscribe(odin_scenario: Scenario) -> None:
    """As JSON; ids move past what it leaves out."""
    query = {"channels": "*.trade", "where": '{"field":"data","gte":2}'}
    source = await EventSource.open(odin_scenario, query)
    await source.event()
    for n in (1, 2, 1, 3, 1):
        odin_scenario.publish("BTC", "trade", n)
    first, second = await source.messages(2)
    assert [one.json["data"]["data"] for one in (first, second)] == [2, 3]
    again = await EventSource.open(odin_scenario, query, last_event_id=first.last_event_id)
    ack = await again.event()
    assert (ack.json["recovered"], ack.json["replayed"]) == (True, 1)
    assert [one.json["data"]["data"] for one in await again.messages(1)] == [3]


async def test_query_has_the_id_to_begin_with_and_the_header_is_newer(
    odin_scenario: Scenario,
) -> None:
    """A page that knows a position puts it into the URL; then its browser sends what it has."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    begin = (await source.event()).last_event_id
    for n in range(2):
        odin_scenario.publish("BTC", "trade", n)
    first, _ = await source.messages(2)
    query = {"channels": "*.trade", "last_event_id": begin}
    by_query = await EventSource.open(odin_scenario, query)
    assert [one.json["data"]["data"] for one in await by_query.messages(2)] == [0, 1]
    by_both = await EventSource.open(odin_scenario, query, last_event_id=first.last_event_id)
    assert [one.json["data"]["data"] for one in await by_both.messages(1)] == [1]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "data: must have channels, topics or bundles"),
        ("channels=", "no names"),
        ("channels=BTC.nope", "unknown category 'nope'"),
        ("topics=nope", "nope: unknown topic"),
        ("chanels=*.trade", "unknown field chanels; allowed: channels, "),
        ("channels=*.trade&v=0", "unknown field v"),
        ("channels=*.trade&snapshot=yes", "snapshot: must be true or false, not 'yes'"),
        ("channels=*.trade&since_ms=now", "since_ms: epoch milliseconds, not 'now'"),
        ("channels=*.trade&since_ms=1&snapshot=true", "must not be together with since_ms"),
        ("channels=*.trade&frames=all", "frames: single or batch"),
        ("channels=*.trade&delivery=some", "data.delivery: must be one of all, latest"),
        ("channels=*.trade&last_event_id=17", "Last-Event-ID: '17' is no event id"),
        ("channels=*.trade&since_ms=1&since_ms=2", "a parameter twice"),
        ("channels=*.trade&where=x", "where: must be JSON"),
        ("channels=*.trade&where={}", "data.where"),
        (
            "channels=*.trade&max_rate=fast",
            "max_rate: must be a number of messages per second, not 'fast'",
        ),
        ("channels=*.trade&max_rate=900", "data.max_rate: must be a number from"),
        ("channels=BTC.trade&tokens=ETH", "data.tokens: must be together with topics or bundles"),
    ],
)
async def test_request_that_asks_for_nothing_is_told_what_is_wrong(
    odin_scenario: Scenario, query: str, text: str
) -> None:
    """400, so that an EventSource does not come back with the same."""
    status, found = await refused(odin_scenario, query)
    assert status == 400
    assert text in found
    assert odin_scenario.service.server.admission.rejections == Counter({"bad_request": 1})


async def test_malformed_last_event_id_is_rejected(odin_scenario: Scenario) -> None:
    """A silent new beginning would be a silent gap."""
    status, text = await refused(odin_scenario, "channels=*.trade", last_event_id="1,x")
    assert (status, text) == (400, "Last-Event-ID: 'x' is no topic of an event id\n")


async def test_topics_of_an_id_that_are_not_subscribed_to_are_left_out(
    odin_scenario: Scenario,
) -> None:
    """Also one that the catalogue does not have: another release had it."""
    source = await EventSource.open(
        odin_scenario, "channels=*.trade", last_event_id="1,odin.social::B,gone::B,odin.trades::A"
    )
    ack = await source.event()
    assert ack.name == "resume_ack"
    assert ack.last_event_id.split(":")[0] == "1,odin.trades"


@pytest.mark.odin_settings(ws_max_header_bytes=1024)
async def test_id_that_could_not_come_back_is_rejected_at_once(odin_scenario: Scenario) -> None:
    """A browser sends it in a header, which has a limit."""
    status, text = await refused(odin_scenario, "channels=*.*")
    assert status == 400
    assert "the event ids of 8 topics would have" in text
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    assert source.status == 200


# ---- the end


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


async def test_stall_of_kafka_is_told(odin_scenario: Scenario) -> None:
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
    order = [(one["pos"].split("-")[0], int(one["pos"].split("-")[1])) for one in last]
    for state in states[-4:]:
        again = await EventSource.open(odin_scenario, query, last_event_id=state.last_event_id)
        *_, end = torn_states(await received(again))
        known = {one["pos"] for one in messages_of(state.events)}
        rest = {one["pos"] for one in messages_of(end.events)}
        assert known.isdisjoint(rest)
        newest = {one["pos"] for one in last if one["data"]["data"] >= 197}
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


# ---- limits and operators


@pytest.mark.odin_settings(ws_max_connections=1)
async def test_stream_takes_a_place(odin_scenario: Scenario) -> None:
    """As a WebSocket does; a program that finds none gets 503."""
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    status, _ = await refused(odin_scenario, "channels=*.trade")
    assert status == 503
    source.stream.break_off()
    await trio.sleep(1)
    assert (await EventSource.open(odin_scenario, "channels=*.trade")).status == 200


@pytest.mark.odin_settings(ws_max_connections=1)
async def test_event_source_that_finds_no_place_comes_back(odin_scenario: Scenario) -> None:
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
    listed = (await ask(odin_scenario, "/clients")).json()["clients"]
    assert sorted((one["transport"], one["patterns"]) for one in listed) == [
        ("sse", 2),
        ("websocket", 0),
    ]
    assert await metric(odin_scenario, "ws_sse_connections_active") == 1
    assert await metric(odin_scenario, "ws_connections_active") == 2
