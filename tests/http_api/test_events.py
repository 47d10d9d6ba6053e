"""GET /sse: a subscription as Server-Sent Events."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource
from tests.http_api.torn import messages_of, received, torn_states


async def rejected(scenario: Scenario, query: str, **how: str) -> tuple[int, str]:
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
    assert [message.json for message in await single.messages(3)] == expected
    event = await batch.event()
    assert (event.name, event.json["seq"]) == ("batch", 1)
    assert [message["pos"] for message in event.json["messages"]] == [
        message["pos"] for message in expected
    ]


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
    found = [message.json for message in await source.messages(2)]
    last = {message["channel"]: message["data"]["data"] for message in found}
    assert last == {"BTC.trade": 2, "ETH.trade": 2}
    assert all(message["replay"] for message in found)


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
    assert [message.json["data"]["data"] for message in await again.messages(1)] == [2]


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
    assert [message.json["data"]["data"] for message in await again.messages(1)] == [3]


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
    assert [message.json["data"]["data"] for message in await by_query.messages(2)] == [0, 1]
    by_both = await EventSource.open(odin_scenario, query, last_event_id=first.last_event_id)
    assert [message.json["data"]["data"] for message in await by_both.messages(1)] == [1]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "data: must have channels, topics or bundles"),
        ("channels=", "the query must have channels"),
        ("channels=BTC.nope", "unknown category 'nope'"),
        ("topics=nope", "nope: unknown topic"),
        ("chanels=*.trade", "unknown field chanels; allowed: channels, "),
        ("channels=*.trade&v=0", "unknown field v"),
        ("channels=*.trade&v%0D%0A%1B=0", r"unknown field v\r\n\x1b;"),
        ("channels=*.trade&snapshot=yes", "snapshot: must be true or false, not 'yes'"),
        ("channels=*.trade&since_ms=now", "since_ms: must be epoch milliseconds, not 'now'"),
        ("channels=*.trade&since_ms=1&snapshot=true", "must not be combined with since_ms"),
        ("channels=*.trade&frames=all", "frames: must be single or batch"),
        ("channels=*.trade&delivery=some", "data.delivery: must be one of all, latest"),
        ("channels=*.trade&last_event_id=17", "Last-Event-ID: '17' is not an event id"),
        ("channels=*.trade&since_ms=1&since_ms=2", "must not have a parameter twice"),
        ("channels=*.trade&where=x", "where: must be JSON"),
        ("channels=*.trade&where={}", "data.where"),
        ('channels=*.trade&where={"field":"a","eq":1e999}', "beyond a double"),
        (
            "channels=*.trade&max_rate=fast",
            "max_rate: must be a number of messages per second, not 'fast'",
        ),
        ("channels=*.trade&max_rate=900", "data.max_rate: must be a number from"),
        ("channels=BTC.trade&tokens=ETH", "data.tokens: requires topics or bundles"),
    ],
)
async def test_invalid_query_is_rejected_with_the_reason(
    odin_scenario: Scenario, query: str, text: str
) -> None:
    """400, so that an EventSource does not come back with the same."""
    status, found = await rejected(odin_scenario, query)
    assert status == 400
    assert text in found
    assert odin_scenario.service.server.admission.rejections == Counter({"bad_request": 1})


async def test_malformed_last_event_id_is_rejected(odin_scenario: Scenario) -> None:
    """A silent new beginning would be a silent gap."""
    status, text = await rejected(odin_scenario, "channels=*.trade", last_event_id="1,x")
    assert (status, text) == (400, "Last-Event-ID: 'x' is not a topic of an event id\n")


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
    status, text = await rejected(odin_scenario, "channels=*.*")
    assert status == 400
    assert "the event ids of 8 topics would have" in text
    source = await EventSource.open(odin_scenario, "channels=*.trade")
    assert source.status == 200
