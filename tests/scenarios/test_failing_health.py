"""Failings of the earlier server in its health report, by their numbers."""

from __future__ import annotations

import pytest
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric, ops_request


@pytest.mark.parametrize("status", [one for one in SourceState if one is not SourceState.LIVE])
async def test_failing_23_health_is_503_stopped_unless_source_is_live(
    odin_scenario: Scenario, status: SourceState
) -> None:
    """The report has the reason and the duration; the next live status makes it 200 and running."""
    source_status = odin_scenario.service.source_status
    source_status.transition(status, "no answer from kafka:9092")
    await trio.sleep(12)
    response = await ops_request(odin_scenario, "/health")
    report = response.json()
    assert (response.status_code, report["status"], report["healthy"]) == (503, "unhealthy", False)
    assert report["checks"]["kafka"]["status"] == "stopped"
    assert report["checks"]["kafka"]["healthy"] is False
    assert report["errors"] == [f"kafka: {status} for 12 s: no answer from kafka:9092"]
    assert await metric(odin_scenario, "ws_kafka_connected") == 0
    source_status.transition(SourceState.LIVE)
    response = await ops_request(odin_scenario, "/health")
    assert (response.status_code, response.json()["checks"]["kafka"]["status"]) == (200, "running")
    assert await metric(odin_scenario, "ws_kafka_connected") == 1
