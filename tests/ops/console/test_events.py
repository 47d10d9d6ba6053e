"""The console's event stream and report: content, intervals, sharing, rejections."""

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
from tests.scenarios.ops import get, ops_request

Event = tuple[float, str, Any]


async def stream(app: Any, seconds: float, query: str = "") -> list[Event]:
    """Read a stream for some seconds; return time, name and data of each event."""
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
    """Count the events by name."""
    return Counter(name for _, name, _ in events)


async def test_stream_sends_past_samples_then_updates(
    odin_scenario: Scenario,
) -> None:
    """First the past samples, then state and samples each second, tables every 2 s."""
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


async def test_setup_lists_topics_bundles_tokens_and_port(odin_scenario: Scenario) -> None:
    """A page offers these to choose from, and connects to the subscribers' port."""
    odin_scenario.publish("BTC", "trade", {"price": 1})
    await trio.sleep(1)
    report = (await ops_request(odin_scenario, "/console/report?parts=setup")).json()
    setup = report["setup"]
    assert setup["topics"]["odin.trades"] == "trade"
    assert setup["bundles"]["TRADING"] == ["trade", "liquidity", "analytics"]
    assert setup["tokens"] == ["BTC"]
    assert setup["subscribers"]["auth"] == "none"
    assert (setup["worker"], setup["workers"]) == (None, 0)


@pytest.mark.odin_settings(ws_allowed_origins=("https://app.example",))
async def test_setup_says_whether_the_page_may_subscribe(odin_scenario: Scenario) -> None:
    """The subscribers' port accepts the page's origin, or the page names the setting."""
    for origin, allowed in (("http://localhost:3003", False), ("https://app.example", True)):
        path = f"/console/report?parts=setup&origin={origin}"
        subscribers = (await ops_request(odin_scenario, path)).json()["setup"]["subscribers"]
        assert subscribers["origin_allowed"] is allowed
        assert subscribers["allowed_origins"] == ["https://app.example"]


async def test_state_has_feed_and_topics(odin_scenario: Scenario) -> None:
    """Each topic has its partitions and lag; a healthy service has no warnings."""
    await trio.sleep(1)
    state = (await ops_request(odin_scenario, "/console/report?parts=state")).json()["state"]
    assert (state["state"], state["not_ready"], state["drain"]) == ("serving", None, None)
    assert state["feed"]["status"] == "live"
    trades = next(topic for topic in state["topics"] if topic["topic"] == "odin.trades")
    assert (trades["status"], trades["category"], trades["problems"]) == ("live", "trade", [])
    assert trades["partitions"] > 0
    assert state["advice"] == []


async def test_state_of_a_drain_has_its_progress(odin_scenario: Scenario) -> None:
    """The connections before the drain, those left, and a warning that explains it."""
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
    """Each slow client has its first patterns."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.nothing"])
    tables = (await ops_request(odin_scenario, "/console/report?parts=tables")).json()["tables"]
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
async def test_invalid_query_is_rejected_with_400(
    odin_scenario: Scenario, path: str, query: str, problem: str
) -> None:
    """The line names the parameter and the allowed values."""
    response = await ops_request(odin_scenario, f"{path}?{query}")
    assert (response.status_code, response.text) == (400, f"{problem}\n")


@pytest.mark.odin_settings(ws_ops_token=Secret("of the operators"))
async def test_page_is_public_and_its_data_requires_the_token(odin_scenario: Scenario) -> None:
    """A browser cannot send a token for a page, and the files are no secret."""
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
async def test_other_sites_may_link_to_the_page_but_not_read_it(
    odin_scenario: Scenario, path: str, headers: dict[str, str], status: int
) -> None:
    """A dashboard may link to the page; other sites can neither read nor embed it."""
    response = await get(odin_scenario, path, headers={"Accept": "text/html", **headers})
    assert response.status_code == status


class Builds:
    """Counts the reports that are built."""

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


async def test_open_pages_share_one_report(autojump_clock: MockClock) -> None:
    """State and tables are built once per interval, for any number of open pages."""
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


async def test_report_has_enumerated_counts_as_text(odin_scenario: Scenario) -> None:
    """Keys that are enumeration members in the code are strings in JSON."""
    service = odin_scenario.service
    service.canary.seconds[Step.CONNECT] = 0.5
    service.hub.stats.invalid_records[InvalidRecord.NO_KEY] += 1
    report = (await ops_request(odin_scenario, "/console/report?parts=state,tables")).json()
    assert report["state"]["health"]["checks"]["canary"]["milliseconds"] == {"connect": 500.0}
    assert report["tables"]["counts"]["skipped"] == {"no_key": 1}
