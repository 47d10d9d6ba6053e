"""Names and values of metrics; test_failing_metrics.py tests that each metric changes."""

from __future__ import annotations

import trio
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.disconnects import end_connection, every_disconnect_reason
from tests.scenarios.ops import metric, metric_names, metrics, ops_request
from tests.scenarios.wire import Op, RawClient, request

# The earlier server's metrics that are still meaningful.
OF_EARLIER_SERVER = {
    "ws_connections_total",
    "ws_connections_active",
    "ws_connections_max",
    "ws_connections_failed_total",
    "ws_disconnects_total",
    "ws_connection_duration_seconds_count",
    "ws_messages_sent_total",
    "ws_messages_received_total",
    "ws_bytes_sent_total",
    "ws_bytes_received_total",
    "ws_slow_clients_disconnected_total",
    "ws_rate_limited_messages_total",
    "ws_memory_bytes",
    "ws_memory_limit_bytes",
    "ws_cpu_usage_percent",
    "ws_kafka_connected",
    "ws_kafka_messages_received_total",
    "ws_kafka_messages_failed_total",
    "ws_capacity_max_connections",
    "ws_capacity_rejections_total",
    "ws_capacity_headroom_percent",
    "ws_errors_total",
}


async def test_metrics_page_parses_and_has_names_of_earlier_server(odin_scenario: Scenario) -> None:
    """Prometheus's own parser reads it."""
    response = await ops_request(odin_scenario, "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    assert await metric_names(odin_scenario) >= OF_EARLIER_SERVER


async def test_disconnects_have_each_reason_from_the_start(odin_scenario: Scenario) -> None:
    """A rate over a label that appears with its first event would miss that event."""
    labels = {
        tuple(sorted(labels)): value
        for (name, labels), value in (await metrics(odin_scenario)).items()
        if name == "ws_disconnects_total"
    }
    assert labels == {
        (("initiated_by", close.value.by.value), ("reason", close.value.label)): 0
        for close in DisconnectReason
    }


@every_disconnect_reason
async def test_each_disconnect_reason_has_its_own_count(
    odin_scenario: Scenario, reason: DisconnectReason
) -> None:
    """A disconnect increases the count of its reason only."""
    await end_connection(odin_scenario, reason)
    counted = {
        dict(labels)["reason"]: value
        for (name, labels), value in (await metrics(odin_scenario)).items()
        if name == "ws_disconnects_total" and value
    }
    assert counted == {reason.value.label: 1}


async def test_bytes_and_messages_equal_those_that_clients_received(
    odin_scenario: Scenario,
) -> None:
    """Ended connections are included."""
    sizes = []
    for _ in range(2):
        client = await RawClient.dial(odin_scenario, request())
        sizes.append(len(await client.head() + b"\r\n\r\n"))
        await client.command("subscribe", channels=["BTC.trade"])
        await trio.sleep(1)
        for number in range(10):
            odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(1)
        assert await metric(odin_scenario, "ws_connections_active") == 1
        await client.send(Op.CLOSE, b"\x03\xe8")
        sizes.append(len(await client.rest_bytes()))
        await trio.sleep(1)
    assert await metric(odin_scenario, "ws_bytes_sent_total") == sum(sizes)
    assert await metric(odin_scenario, "ws_messages_sent_total") == 20
    assert await metric(odin_scenario, "ws_messages_received_total") == 2
    assert await metric(odin_scenario, "ws_connections_active") == 0


async def test_bytes_received_count_frames_without_head(odin_scenario: Scenario) -> None:
    """A frame of 8 bytes adds 8."""
    client = await RawClient.open(odin_scenario)
    before = await metric(odin_scenario, "ws_bytes_received_total")
    await client.send(Op.PING, b"hi")
    await client.next()
    assert await metric(odin_scenario, "ws_bytes_received_total") - before == 8


async def test_record_age_is_measured_for_delivered_records_only(odin_scenario: Scenario) -> None:
    """The age is the time since the broker's timestamp."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    now = odin_scenario.publish("ETH", "trade").timestamp
    odin_scenario.log.append("odin.trades", b"BTC", b"{}", timestamp=now - 7000)
    await client.message()
    await trio.sleep(1)
    assert await metric(odin_scenario, "ws_record_age_seconds_count") == 1
    assert await metric(odin_scenario, "ws_record_age_seconds_bucket", le="5") == 0
    assert await metric(odin_scenario, "ws_record_age_seconds_bucket", le="10") == 1


async def test_partitions_held_by_transaction_show_source_status(odin_scenario: Scenario) -> None:
    """The source sets the number."""
    assert await metric(odin_scenario, "ws_kafka_partitions_held") == 0
    odin_scenario.service.source_status.held_partitions = 2
    assert await metric(odin_scenario, "ws_kafka_partitions_held") == 2
