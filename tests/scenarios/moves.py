"""For each metric something that moves it, as what clients, Kafka or the server do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceState
from odin_ws.testing.scenario import Scenario
from tests.scenarios.endings import end
from tests.scenarios.wire import Op, RawClient, request

__all__ = ["MOVES", "ask_for_a_page", "deliver"]

Action = Callable[[Scenario], Awaitable[None]]


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


async def dial(scenario: Scenario) -> None:
    """A caller that says nothing."""
    await RawClient.dial(scenario, b"")
    await trio.sleep(1)


async def fill_an_send_queue(scenario: Scenario) -> None:
    """A subscriber with something waiting."""
    client = await RawClient.open(scenario, capacity=300)
    await client.subscribe("BTC.trade")
    scenario.publish("BTC", "trade", "x" * 1000)
    await trio.sleep(1)


async def close_as_slow(scenario: Scenario) -> None:
    """More records than WS_MAX_KAFKA_RATE lets through at once."""
    for _ in range(5000):
        scenario.publish("BTC", "trade")
    await trio.sleep(1)


async def lose_the_broker(scenario: Scenario) -> None:
    """What the source says when it does."""
    scenario.service.source_status.transition(SourceState.STALLED, "no answer")


async def lag(scenario: Scenario) -> None:
    """What the source's probe finds."""
    scenario.service.source_status.lag = {"odin.trades": 5}


async def lose_records(scenario: Scenario) -> None:
    """What the source says when retention was faster than it."""
    scenario.service.source_status.lost_records += 1


async def resume(scenario: Scenario) -> None:
    """A client comes back and gets what it has missed."""
    record = scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await scenario.connect()
    await client.resume({record.topic: {record.partition: -1}}, channels=["BTC.trade"])
    await client.message()


async def wait_for_the_log(scenario: Scenario) -> None:
    """A client that begins in the past, while Kafka takes its time."""
    scenario.log_reader.hold()
    client = await RawClient.open(scenario)
    await client.command("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(1)


async def skip(scenario: Scenario) -> None:
    """A subscriber to the latest is behind, and what waits for it is replaced."""
    client = await RawClient.open(scenario, capacity=300)
    await client.command("subscribe", channels=["BTC.trade"], delivery="latest")
    await client.next()
    scenario.publish("BTC", "trade", "x" * 100_000)
    for _ in range(2):
        await trio.sleep(1)
        scenario.publish("BTC", "trade")
    await trio.sleep(1)


async def misname(scenario: Scenario) -> None:
    """A client names what there is not."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.nothing"])


async def filter_messages(scenario: Scenario) -> None:
    """A client subscribes with a filter, which a message meets."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade"], where={"field": "data", "eq": 1})
    scenario.publish("BTC", "trade", 1)
    await client.message()


MOVES: dict[str, Action] = {
    "ws_connections_total": connect,
    "ws_connections_active": connect,
    "ws_connections_pending": dial,
    "ws_connections_failed_total": ask_for_a_page,
    "ws_disconnects_total": partial(end, reason=DisconnectReason.CLIENT),
    "ws_connection_duration_seconds_count": partial(end, reason=DisconnectReason.CLIENT),
    "ws_slow_clients_disconnected_total": partial(end, reason=DisconnectReason.SLOW),
    "ws_errors_total": partial(end, reason=DisconnectReason.INTERNAL),
    "ws_messages_sent_total": deliver,
    "ws_messages_skipped_total": skip,
    "ws_messages_received_total": say,
    "ws_commands_rejected_total": say,
    "ws_names_rejected_total": misname,
    "ws_rate_limited_messages_total": partial(end, reason=DisconnectReason.FLOODING),
    "ws_bytes_sent_total": connect,
    "ws_bytes_received_total": say,
    "ws_capacity_headroom_percent": connect,
    "ws_capacity_rejections_total": come_late,
    "ws_kafka_connected": lose_the_broker,
    "ws_kafka_paced": close_as_slow,
    "ws_kafka_messages_received_total": deliver,
    "ws_kafka_messages_failed_total": fail_to_read,
    "ws_kafka_unknown_event_types_total": deliver,
    "ws_kafka_records_lost_total": lose_records,
    "ws_kafka_lag_records": lag,
    "ws_record_age_seconds_count": deliver,
    "ws_dispatch_cycle_seconds_count": deliver,
    "ws_subscribed_patterns": deliver,
    "ws_filters": filter_messages,
    "ws_filter_comparisons_total": filter_messages,
    "ws_send_queue_backlog_bytes": fill_an_send_queue,
    "ws_send_queue_backlog_max_bytes": fill_an_send_queue,
    "ws_history_messages": deliver,
    "ws_history_bytes": deliver,
    "ws_snapshot_channels": deliver,
    "ws_replays_active": wait_for_the_log,
    "ws_replays_total": resume,
    "ws_replayed_messages_total": resume,
}
