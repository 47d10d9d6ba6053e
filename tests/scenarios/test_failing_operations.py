"""What the earlier server got wrong about operations, by the numbers of its list of failings.

26, settings that were parsed and never applied, is test_settings_effects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs
from structlog.typing import EventDict
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.connection import session
from odin_ws.connection.closing import Close
from odin_ws.hub import hub
from odin_ws.protocol.commands import Command
from odin_ws.protocol.envelope import Dialect, Message, encode_messages
from odin_ws.records import Record
from odin_ws.source.feed import FeedStatus
from odin_ws.source.memory import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.container import Container
from tests.scenarios.endings import end
from tests.scenarios.faulty import open_buggy
from tests.scenarios.ops import ask, metric, metric_names
from tests.scenarios.wire import Op, RawClient, request

Action = Callable[[Scenario], Awaitable[None]]


# ---- 23


@pytest.mark.parametrize("status", [one for one in FeedStatus if one is not FeedStatus.LIVE])
async def test_failing_23_health_says_stopped_when_the_feed_is_not_live(
    odin_scenario: Scenario, status: FeedStatus
) -> None:
    """503 and stopped with the reason and since when; running again as soon as it is live."""
    feed = odin_scenario.view.feed
    feed.become(status, "no answer from kafka:9092")
    await trio.sleep(12)
    answer = await ask(odin_scenario, "/health")
    report = answer.json()
    assert (answer.status_code, report["status"], report["healthy"]) == (503, "unhealthy", False)
    assert report["checks"]["kafka"]["status"] == "stopped"
    assert report["checks"]["kafka"]["healthy"] is False
    assert report["errors"] == [f"kafka: {status} for 12 s: no answer from kafka:9092"]
    assert await metric(odin_scenario, "ws_kafka_connected") == 0
    feed.become(FeedStatus.LIVE)
    answer = await ask(odin_scenario, "/health")
    assert (answer.status_code, answer.json()["checks"]["kafka"]["status"]) == (200, "running")
    assert await metric(odin_scenario, "ws_kafka_connected") == 1


# ---- 24


async def connect(scenario: Scenario) -> None:
    """One more connection."""
    await RawClient.open(scenario)


async def ask_for_a_page(scenario: Scenario) -> None:
    """A caller that wants something else."""
    client = await RawClient.dial(scenario, request("/index.html"))
    await client.head()


async def come_late(scenario: Scenario) -> None:
    """A caller whose head comes when the server is draining."""
    client = await RawClient.dial(scenario, request()[:9])
    scenario.stop()
    await trio.sleep(1.5)
    await client.stream.send_all(request()[9:])
    await client.head()


async def say(scenario: Scenario) -> None:
    """One command, a bad one."""
    client = await RawClient.open(scenario)
    await client.send(Op.TEXT, b"?")
    await client.next()


async def deliver(scenario: Scenario) -> None:
    """A subscriber gets a message of a type its topic does not list."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    scenario.publish("BTC", "trade", kind="NEWS")
    await client.message()


async def fail_to_read(scenario: Scenario) -> None:
    """A record without a key."""
    scenario.log.append("odin.trades", None, b"{}")
    await trio.sleep(1)


async def fill_an_outbox(scenario: Scenario) -> None:
    """A subscriber with something waiting."""
    client = await RawClient.open(scenario, capacity=300)
    await client.subscribe("BTC.trade")
    scenario.publish("BTC", "trade", "x" * 1000)
    await trio.sleep(1)


async def fall_behind(scenario: Scenario) -> None:
    """More records than WS_MAX_KAFKA_RATE lets through at once."""
    for _ in range(5000):
        scenario.publish("BTC", "trade")
    await trio.sleep(1)


async def lose_the_broker(scenario: Scenario) -> None:
    """What the source says when it does."""
    scenario.view.feed.become(FeedStatus.STALLED, "no answer")


async def lag(scenario: Scenario) -> None:
    """What the source's probe finds."""
    scenario.view.feed.lag = {"odin.trades": 5}


async def lose_records(scenario: Scenario) -> None:
    """What the source says when retention was faster than it."""
    scenario.view.feed.lost_records += 1


MOVES: dict[str, Action] = {
    "ws_connections_total": connect,
    "ws_connections_active": connect,
    "ws_connections_failed_total": ask_for_a_page,
    "ws_disconnects_total": partial(end, reason=Close.CLIENT),
    "ws_connection_duration_seconds_count": partial(end, reason=Close.CLIENT),
    "ws_slow_clients_disconnected_total": partial(end, reason=Close.SLOW),
    "ws_errors_total": partial(end, reason=Close.INTERNAL),
    "ws_messages_sent_total": deliver,
    "ws_messages_received_total": say,
    "ws_commands_refused_total": say,
    "ws_rate_limited_messages_total": partial(end, reason=Close.FLOODING),
    "ws_bytes_sent_total": connect,
    "ws_bytes_received_total": say,
    "ws_capacity_headroom_percent": connect,
    "ws_capacity_rejections_total": come_late,
    "ws_kafka_connected": lose_the_broker,
    "ws_kafka_paced": fall_behind,
    "ws_kafka_messages_received_total": deliver,
    "ws_kafka_messages_failed_total": fail_to_read,
    "ws_kafka_unknown_event_types_total": deliver,
    "ws_kafka_records_lost_total": lose_records,
    "ws_kafka_lag_records": lag,
    "ws_record_age_seconds_count": deliver,
    "ws_dispatch_cycle_seconds_count": deliver,
    "ws_subscribed_patterns": deliver,
    "ws_outbox_backlog_bytes": fill_an_outbox,
    "ws_outbox_backlog_max_bytes": fill_an_outbox,
}

# Those that a setting decides, with what they show below.
FIXED = {
    "ws_connections_max": 7,
    "ws_capacity_max_connections": 7,
    "ws_memory_limit_bytes": 1 << 40,
}

# Those that sampling moves.
SAMPLED = {"ws_memory_bytes", "ws_cpu_usage_percent"}


async def test_failing_24_every_metric_has_a_test_that_sees_it_move(
    odin_scenario: Scenario,
) -> None:
    """The tables of the three tests that follow name every metric there is, and no other."""
    assert await metric_names(odin_scenario) == MOVES.keys() | FIXED.keys() | SAMPLED


@pytest.mark.parametrize("name", MOVES)
async def test_failing_24_a_metric_moves(odin_scenario: Scenario, name: str) -> None:
    """What a metric tells of changes it."""
    before = await metric(odin_scenario, name)
    await MOVES[name](odin_scenario)
    assert await metric(odin_scenario, name) != before


@pytest.mark.odin_settings(ws_max_connections=7, ws_memory_limit=1 << 40)
@pytest.mark.parametrize("name", FIXED)
async def test_failing_24_a_metric_shows_its_setting(odin_scenario: Scenario, name: str) -> None:
    """Limits are shown as they are in force."""
    assert await metric(odin_scenario, name) == FIXED[name]


async def test_failing_24_memory_and_cpu_are_sampled(
    container: Container, odin_scenario: Scenario
) -> None:
    """Both show what the container uses, a second later."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.view.resources.run)
        await trio.sleep(0.5)
        assert await metric(odin_scenario, "ws_memory_bytes") == 0
        container.use(memory=300_000, cpu_seconds=9)
        await trio.sleep(0.6)
        assert await metric(odin_scenario, "ws_memory_bytes") == 300_000
        assert await metric(odin_scenario, "ws_cpu_usage_percent") > 0
        nursery.cancel_scope.cancel()


# ---- 25


async def test_failing_25_limits_are_the_containers(
    container: Container, odin_scenario: Scenario
) -> None:
    """Not the machine's, and memory is the working set: cache that can be had back is not in it."""
    container.use(memory=250_000, cpu_seconds=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.view.resources.run)
        await trio.sleep(1.1)
        checks = (await ask(odin_scenario, "/health")).json()["checks"]
        nursery.cancel_scope.cancel()
    assert checks["limits"]["cpu_cores"] == 2
    assert checks["memory"]["percentage"] == 25
    assert await metric(odin_scenario, "ws_memory_limit_bytes") == 1_000_000


async def test_failing_25_out_of_memory_is_noticed_within_a_second(
    container: Container, odin_scenario: Scenario
) -> None:
    """New callers get 503 with the reason, those who are in stay; it ends when memory is back."""
    inside = await odin_scenario.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.view.resources.run)
        await RawClient.open(odin_scenario)
        container.use(memory=1_000_000, cpu_seconds=0)
        await trio.sleep(1.01)
        refused = await RawClient.dial(odin_scenario, request())
        head = await refused.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert await refused.rest_bytes() == b"the server is short of memory\n"
        assert (await inside.command("heartbeat"))["type"] == "pong"
        assert await metric(odin_scenario, "ws_capacity_rejections_total", reason="memory") == 1
        container.use(memory=999_999, cpu_seconds=0)
        await trio.sleep(1.01)
        await RawClient.open(odin_scenario)
        nursery.cancel_scope.cancel()


# ---- 27


def lines_above_debug(logs: Sequence[EventDict]) -> list[str]:
    """What would be printed at LOG_LEVEL=info."""
    return [line["event"] for line in logs if line["log_level"] != "debug"]


async def test_failing_27_traffic_is_not_logged(odin_scenario: Scenario) -> None:
    """Connections, commands, messages and ends, good or bad, leave no line at info."""
    with capture_logs() as logs:
        for reason in (Close.CLIENT, Close.LOST, Close.BINARY, Close.BAD_COMMANDS, Close.SLOW):
            await end(odin_scenario, reason)
        await deliver(odin_scenario)
        await ask_for_a_page(odin_scenario)
        await trio.sleep(10)
    assert lines_above_debug(logs) == []


async def test_failing_27_a_broken_publisher_does_not_fill_the_log(
    odin_scenario: Scenario,
) -> None:
    """1,000 unreadable records of one kind within 20 seconds are one line that says which kind."""
    with capture_logs() as logs:
        for _ in range(1000):
            odin_scenario.log.append("odin.trades", None, b"{}")
            await trio.sleep(0.02)
    (line,) = logs
    assert (line["log_level"], line["reason"], line["topic"]) == (
        "warning",
        "no_key",
        "odin.trades",
    )


# ---- 28


async def test_failing_28_a_message_is_encoded_once_for_all(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 subscribers to one channel share one encoding of each write, value and frame."""
    encoded: list[int] = []

    def counting(messages: Sequence[Message], seq: int, dialect: Dialect) -> bytes:
        encoded.append(len(messages))
        return encode_messages(messages, seq, dialect)

    monkeypatch.setattr(hub, "encode_messages", counting)
    clients = [await RawClient.open(odin_scenario) for _ in range(50)]
    for client in clients:
        await client.subscribe("BTC.trade")
    for _ in range(3):
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(1)
    assert encoded == [1, 1, 1]
    assert len({(await client.next()).payload for client in clients}) == 1


# ---- 29


async def test_failing_29_an_exception_in_one_connection_ends_that_one(
    odin_scenario: Scenario,
) -> None:
    """It hears 1011, is counted and logged once with a traceback; all others go on."""
    other = await odin_scenario.connect()
    await other.subscribe(channels=["BTC.trade"])
    client, wire = await open_buggy(odin_scenario)
    await client.subscribe("BTC.trade")
    with capture_logs() as logs:
        wire.fail()
        assert await client.close_frame() == (1011, "internal error")
        await trio.sleep(10)
    (line,) = [line for line in logs if line["log_level"] != "debug"]
    assert (line["event"], line["log_level"]) == ("a connection failed", "error")
    assert line["exc_info"]
    assert odin_scenario.view.server.stats.errors == 1
    assert odin_scenario.view.server.stats.closed == {Close.INTERNAL: 1}
    odin_scenario.publish("BTC", "trade", "on it goes")
    assert (await other.message())["data"]["data"] == "on it goes"


async def test_failing_29_a_command_that_meets_a_bug_ends_that_connection(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers before it still come over a slow wire, then 1011; another client goes on."""
    other = await odin_scenario.connect()
    client = await RawClient.open(odin_scenario, capacity=100)
    await client.command("heartbeat")
    await client.command("subscribe", channels=["nonsense"])
    await trio.sleep(0.1)

    def failing(*_arguments: object) -> Command:
        raise ZeroDivisionError("a bug in a command")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(session, "decode_command", failing)
        await client.command("heartbeat")
        *answers, last = await client.rest()
        await trio.sleep(10)
    assert [one.json["type"] for one in answers] == ["pong", "subscription_ack"]
    assert last.close == (1011, "internal error")
    assert lines_above_debug(logs) == ["a connection failed"]
    assert (await other.command("heartbeat"))["type"] == "pong"


async def test_failing_29_an_exception_before_the_upgrade_ends_that_caller(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug while a head is judged costs one caller its connection, and nobody else's."""
    other = await odin_scenario.connect()

    def overload() -> str | None:
        raise ZeroDivisionError("a bug in admission")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(odin_scenario.view.server.admission, "overload", overload)
        client = await RawClient.dial(odin_scenario, request())
        assert await client.rest_bytes() == b""
    assert lines_above_debug(logs) == ["a connection failed"]
    assert odin_scenario.view.server.stats.errors == 1
    assert (await other.command("heartbeat"))["type"] == "pong"
    await RawClient.open(odin_scenario)


async def test_failing_29_a_bug_in_the_hub_ends_the_service(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not swallowed: the exception comes out; clients hear that they should come back."""

    def failing(*_arguments: object) -> bytes:
        raise ZeroDivisionError("a bug in the hub")

    monkeypatch.setattr(hub, "encode_messages", failing)
    streams: list[RawClient] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ZeroDivisionError, match="a bug in the hub"), flatten_subgroups=True
    ):
        async with open_scenario() as scenario:
            streams.append(await RawClient.open(scenario))
            await streams[0].subscribe("BTC.trade")
            scenario.publish("BTC", "trade")
            await trio.sleep(60)
    assert (await streams[0].close_frame())[0] == 1012


class BuggyLog(MemoryLog):
    """A log that cannot be read."""

    def read(self, *_arguments: object) -> list[Record]:
        """Fail."""
        raise ZeroDivisionError("a bug in the source")


async def test_failing_29_a_bug_in_the_source_ends_the_service(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """It is not swallowed: the exception comes out; clients hear that they should come back."""
    streams: list[RawClient] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ZeroDivisionError, match="a bug in the source"), flatten_subgroups=True
    ):
        async with open_scenario(log=BuggyLog(default_catalogue().topics)) as scenario:
            streams.append(await RawClient.open(scenario))
            scenario.publish("BTC", "trade")
            await trio.sleep(60)
    assert (await streams[0].close_frame())[0] == 1012
