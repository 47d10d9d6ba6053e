"""The stream of the console, and its report: what comes when, what is shared, what is rejected."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.auth.origins import Origins
from odin_ws.canary.steps import Step
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.lifecycle import ServiceState
from odin_ws.ops.app import ops_app
from odin_ws.ops.console.events import ConsoleEvents
from odin_ws.ops.console.sampler import Sampler
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import ask, get

Event = tuple[float, str, Any]


async def stream(app: Any, seconds: float, query: str = "") -> list[Event]:
    """What comes on a stream in so many seconds: when, the name, the data."""
    events: list[Event] = []
    began = trio.current_time()

    async def receive() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            assert (b"content-type", b"text/event-stream; charset=utf-8") in message["headers"]
            return
        for text in message.get("body", b"").decode().split("\n\n")[:-1]:
            name, data = text.removeprefix("event: ").split("\ndata: ")
            events.append((round(trio.current_time() - began, 3), name, json.loads(data)))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/console/events",
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost")],
        "server": None,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    with trio.move_on_after(seconds):
        await app(scope, receive, send)
    return events


def names(events: Collection[Event]) -> Counter[str]:
    """How many there were of each."""
    return Counter(name for _, name, _ in events)


async def test_stream_begins_with_everything_and_goes_on_each_second(
    odin_scenario: Scenario,
) -> None:
    """The past first; then the state and the new samples, and the tables every other second."""
    service = odin_scenario.service
    began = trio.current_time()
    sampler = Sampler(service, lambda: 1_800_000_000 + trio.current_time() - began)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sampler.run)
        await trio.sleep(10.5)
        events = await stream(ops_app(service, sampler=sampler), 4.2)
        nursery.cancel_scope.cancel()
    assert [name for at, name, _ in events if at == 0] == ["setup", "state", "samples", "tables"]
    samples = [data for _, name, data in events if name == "samples"]
    times = [at for data in samples for at in data["t"]]
    assert times == [1_800_000_000 + second for second in range(1, 15)]
    assert len(samples[0]["t"]) == 10
    assert names(events) == {"setup": 1, "state": 5, "samples": 5, "tables": 3}


async def test_setup_has_what_a_page_chooses_from(odin_scenario: Scenario) -> None:
    """Topics, bundles, live tokens, and where subscribers connect."""
    odin_scenario.publish("BTC", "trade", {"price": 1})
    await trio.sleep(1)
    report = (await ask(odin_scenario, "/console/report?parts=setup")).json()
    setup = report["setup"]
    assert setup["topics"]["odin.trades"] == "trade"
    assert setup["bundles"]["TRADING"] == ["trade", "liquidity", "analytics"]
    assert setup["tokens"] == ["BTC"]
    assert setup["subscribers"]["auth"] == "none"
    assert (setup["worker"], setup["workers"]) == (None, 0)


@pytest.mark.odin_settings(ws_allowed_origins=("https://app.example",))
async def test_setup_says_whether_the_page_may_subscribe(odin_scenario: Scenario) -> None:
    """As the subscribers' port will judge its origin; the page says what to set."""
    for origin, allowed in (("http://localhost:3003", False), ("https://app.example", True)):
        path = f"/console/report?parts=setup&origin={origin}"
        subscribers = (await ask(odin_scenario, path)).json()["setup"]["subscribers"]
        assert subscribers["origin_allowed"] is allowed
        assert subscribers["allowed_origins"] == ["https://app.example"]


async def test_state_tells_of_feed_and_topics(odin_scenario: Scenario) -> None:
    """Each topic with its partitions and lag, and nothing to warn of."""
    await trio.sleep(1)
    state = (await ask(odin_scenario, "/console/report?parts=state")).json()["state"]
    assert (state["state"], state["not_ready"], state["drain"]) == ("serving", None, None)
    assert state["feed"]["status"] == "live"
    trades = next(one for one in state["topics"] if one["topic"] == "odin.trades")
    assert (trades["status"], trades["category"], trades["problems"]) == ("live", "trade", [])
    assert trades["partitions"] > 0
    assert state["advice"] == []


async def test_state_of_a_drain_has_its_progress(odin_scenario: Scenario) -> None:
    """How many were there, how many are left, and a warning with what it means."""
    clients = [await odin_scenario.connect() for _ in range(3)]
    service = odin_scenario.service
    sampler = Sampler(service, lambda: 1_800_000_000 + trio.current_time())
    sampler.sample()
    await trio.sleep(1)
    service.lifecycle.enter(ServiceState.DRAINING)
    sampler.sample()
    await clients[0].websocket.aclose()
    await trio.sleep(1)
    events = await stream(ops_app(service, sampler=sampler), 0.1)
    state = next(data for _, name, data in events if name == "state")
    assert state["state"] == "draining"
    assert (state["drain"]["begun_with"], state["drain"]["left"]) == (3, 2)
    assert [one["text"] for one in state["advice"]] == ["draining"]


async def test_tables_list_slow_clients_and_counts(odin_scenario: Scenario) -> None:
    """With the first patterns of each."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.nothing"])
    tables = (await ask(odin_scenario, "/console/report?parts=tables")).json()["tables"]
    (row,) = tables["clients"]["clients"]
    assert row["first_patterns"] == ["BTC.trade"]
    assert tables["patterns"] == [{"pattern": "BTC.trade", "subscribers": 1}]
    assert tables["counts"]["errors"] == {"INVALID_CHANNEL": 1}
    assert tables["counts"]["dead_letters"] == {"written": 0, "dropped": 0, "failed": 0}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("parts=states", "parts=states: allowed are setup, state, samples, tables"),
        ("after=-1", "after=-1: must be an integer, 0 to 9007199254740992"),
        ("after=1.5", "after=1.5: must be an integer, 0 to 9007199254740992"),
        ("after=%C2%B2", "after=²: must be an integer, 0 to 9007199254740992"),
        ("worker=1", "worker: this server has no workers (WS_WORKERS=1)"),
        ("origin=" + "x" * 301, "origin: at most 300 characters"),
        ("x=1", "unknown parameter x; allowed: after, origin, parts, worker"),
    ],
)
@pytest.mark.parametrize("path", ["/console/report", "/console/events"])
async def test_query_that_cannot_be_used_is_400(
    odin_scenario: Scenario, path: str, query: str, problem: str
) -> None:
    """The line names the parameter and what is allowed."""
    answer = await ask(odin_scenario, f"{path}?{query}")
    assert (answer.status_code, answer.text) == (400, f"{problem}\n")


@pytest.mark.odin_settings(ws_ops_token=Secret("of the operators"))
async def test_page_needs_no_token_and_what_it_shows_does(odin_scenario: Scenario) -> None:
    """A browser cannot send one for a page; the files are the same for everybody."""
    html = {"Accept": "text/html"}
    assert (await get(odin_scenario, "/", headers=html)).status_code == 200
    assert (await get(odin_scenario, "/console/app.js")).status_code == 200
    assert (await get(odin_scenario, "/")).status_code == 401
    for path in ("/console/report", "/console/events", "/console/index.html"):
        assert (await get(odin_scenario, path, headers=html)).status_code == 401
    bearer = {"Authorization": "Bearer of the operators"}
    assert (await get(odin_scenario, "/console/report", headers=bearer)).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/", {"Sec-Fetch-Mode": "navigate", "Origin": "https://evil.example"}, 403),
        ("/", {"Host": "evil.example"}, 403),
        ("/console/app.js", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        (
            "/console/report",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
            403,
        ),
    ],
)
async def test_link_of_another_site_leads_to_the_page_only(
    odin_scenario: Scenario, path: str, headers: dict[str, str], status: int
) -> None:
    """A dashboard may link here; nothing can be read or embedded from there."""
    answer = await get(odin_scenario, path, headers={"Accept": "text/html", **headers})
    assert answer.status_code == status


class Builds:
    """Counts what was built."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def __call__(
        self, parts: Collection[str], after: int, _worker: int | None
    ) -> dict[str, Any]:
        """See BuildReport."""
        await trio.lowlevel.checkpoint()
        self.counts.update([*parts, f"after {after}"] if "samples" in parts else parts)
        samples = {"t": [after + 1], "gauges": {}, "counts": {}}
        everything = {"samples": samples, "setup": {"subscribers": {}}, "state": {}, "tables": {}}
        return {name: everything[name] for name in parts}


async def test_many_pages_share_what_costs(autojump_clock: MockClock) -> None:
    """State and tables are built once for all who look, however many that are."""
    builds = Builds()
    events = ConsoleEvents(builds, 0, 1.0, Origins(["*"]))

    async def follow() -> None:
        query = events._read({})  # noqa: SLF001 -- a request would only be in the way
        found = events._events(query)  # noqa: SLF001
        assert isinstance(found, AsyncIterator)
        async with aclosing(found):  # type: ignore[type-var]
            async for _ in found:
                pass

    with trio.move_on_after(9.5):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(follow)
    assert builds.counts["state"] == 10
    assert builds.counts["tables"] == 5
    assert builds.counts["after 0"] == 1


async def test_report_has_what_the_canary_and_others_count(odin_scenario: Scenario) -> None:
    """Whatever is counted by an enumeration is a text in JSON."""
    service = odin_scenario.service
    service.canary.seconds[Step.CONNECT] = 0.5
    service.hub.stats.invalid_records[InvalidRecord.NO_KEY] += 1
    report = (await ask(odin_scenario, "/console/report?parts=state,tables")).json()
    assert report["state"]["health"]["checks"]["canary"]["milliseconds"] == {"connect": 500.0}
    assert report["tables"]["counts"]["skipped"] == {"no_key": 1}
