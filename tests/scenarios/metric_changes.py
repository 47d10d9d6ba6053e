"""For each metric an action of clients, Kafka or the server that changes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceState
from odin_ws.testing.scenario import Scenario
from tests.scenarios.disconnects import end_connection
from tests.scenarios.wire import Op, RawClient, request

__all__ = ["CHANGES", "deliver", "request_missing_page"]

Action = Callable[[Scenario], Awaitable[None]]


async def connect(scenario: Scenario) -> None:
    """Open a connection."""
    await RawClient.open(scenario)


async def request_missing_page(scenario: Scenario) -> None:
    """Request a path that does not exist."""
    client = await RawClient.dial(scenario, request("/index.html"))
    await client.head()


async def connect_while_draining(scenario: Scenario) -> None:
    """Complete a request head while the server is draining."""
    client = await RawClient.dial(scenario, request()[:9])
    scenario.stop()
    await trio.sleep(1.5)
    await client.stream.send_all(request()[9:])
    await client.head()


async def send_invalid_command(scenario: Scenario) -> None:
    """Send one invalid command."""
    client = await RawClient.open(scenario)
    await client.send(Op.TEXT, b"?")
    await client.next()


async def deliver(scenario: Scenario) -> None:
    """Deliver a message whose event type is not in the catalogue."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    scenario.publish("BTC", "trade", kind="NEWS")
    await client.message()


async def publish_invalid_record(scenario: Scenario) -> None:
    """Append a record without a key."""
    scenario.log.append("odin.trades", None, b"{}")
    await trio.sleep(1)


async def connect_silently(scenario: Scenario) -> None:
    """Connect without sending a byte."""
    await RawClient.dial(scenario, b"")
    await trio.sleep(1)


async def fill_send_queue(scenario: Scenario) -> None:
    """Publish more to a subscriber than its connection takes."""
    client = await RawClient.open(scenario, capacity=300)
    await client.subscribe("BTC.trade")
    scenario.publish("BTC", "trade", "x" * 1000)
    await trio.sleep(1)


async def exceed_kafka_rate(scenario: Scenario) -> None:
    """Publish more records than WS_MAX_KAFKA_RATE allows at once."""
    for _ in range(5000):
        scenario.publish("BTC", "trade")
    await trio.sleep(1)


async def lose_the_broker(scenario: Scenario) -> None:
    """Set the source's status as if the broker did not answer."""
    scenario.service.source_status.transition(SourceState.STALLED, "no answer")


async def lag(scenario: Scenario) -> None:
    """Set the lag that the source measures."""
    scenario.service.source_status.lag = {"odin.trades": 5}


async def lose_records(scenario: Scenario) -> None:
    """Count a record that was deleted before the source read it."""
    scenario.service.source_status.lost_records += 1


async def resume(scenario: Scenario) -> None:
    """Resume a client that missed a message."""
    record = scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await scenario.connect()
    await client.resume({record.topic: {record.partition: -1}}, channels=["BTC.trade"])
    await client.message()


async def wait_for_the_log(scenario: Scenario) -> None:
    """Subscribe with `since_ms` while the log reader does not answer."""
    scenario.log_reader.hold()
    client = await RawClient.open(scenario)
    await client.command("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(1)


async def conflate(scenario: Scenario) -> None:
    """Replace pending messages of a slow subscriber with `delivery: latest`."""
    client = await RawClient.open(scenario, capacity=300)
    await client.command("subscribe", channels=["BTC.trade"], delivery="latest")
    await client.next()
    scenario.publish("BTC", "trade", "x" * 100_000)
    for _ in range(2):
        await trio.sleep(1)
        scenario.publish("BTC", "trade")
    await trio.sleep(1)


async def subscribe_to_unknown_channel(scenario: Scenario) -> None:
    """Subscribe to a channel of an unknown category."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.nothing"])


async def filter_messages(scenario: Scenario) -> None:
    """Deliver a message that matches a subscriber's filter."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade"], where={"field": "data", "eq": 1})
    scenario.publish("BTC", "trade", 1)
    await client.message()


CHANGES: dict[str, Action] = {
    "ws_connections_total": connect,
    "ws_connections_active": connect,
    "ws_connections_pending": connect_silently,
    "ws_connections_failed_total": request_missing_page,
    "ws_disconnects_total": partial(end_connection, reason=DisconnectReason.CLIENT),
    "ws_connection_duration_seconds_count": partial(end_connection, reason=DisconnectReason.CLIENT),
    "ws_slow_clients_disconnected_total": partial(end_connection, reason=DisconnectReason.SLOW),
    "ws_errors_total": partial(end_connection, reason=DisconnectReason.INTERNAL),
    "ws_messages_sent_total": deliver,
    "ws_messages_skipped_total": conflate,
    "ws_messages_received_total": send_invalid_command,
    "ws_commands_rejected_total": send_invalid_command,
    "ws_names_rejected_total": subscribe_to_unknown_channel,
    "ws_rate_limited_messages_total": partial(end_connection, reason=DisconnectReason.FLOODING),
    "ws_bytes_sent_total": connect,
    "ws_bytes_received_total": send_invalid_command,
    "ws_capacity_headroom_percent": connect,
    "ws_capacity_rejections_total": connect_while_draining,
    "ws_kafka_connected": lose_the_broker,
    "ws_kafka_paced": exceed_kafka_rate,
    "ws_kafka_messages_received_total": deliver,
    "ws_kafka_messages_failed_total": publish_invalid_record,
    "ws_kafka_unknown_event_types_total": deliver,
    "ws_kafka_records_lost_total": lose_records,
    "ws_kafka_lag_records": lag,
    "ws_record_age_seconds_count": deliver,
    "ws_dispatch_cycle_seconds_count": deliver,
    "ws_subscribed_patterns": deliver,
    "ws_filters": filter_messages,
    "ws_filter_comparisons_total": filter_messages,
    "ws_send_queue_backlog_bytes": fill_send_queue,
    "ws_send_queue_backlog_max_bytes": fill_send_queue,
    "ws_history_messages": deliver,
    "ws_history_bytes": deliver,
    "ws_snapshot_channels": deliver,
    "ws_replays_active": wait_for_the_log,
    "ws_replays_total": resume,
    "ws_replayed_messages_total": resume,
}
