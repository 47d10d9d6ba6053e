"""Failings of the earlier server in logging, by their numbers."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.disconnects import end_connection
from tests.scenarios.logs import lines_above_debug
from tests.scenarios.metric_changes import deliver, request_missing_page


async def test_failing_27_traffic_is_not_logged_at_info(odin_scenario: Scenario) -> None:
    """Connections, commands, messages and disconnects, valid or not, log at most at debug."""
    with capture_logs() as logs:
        for reason in (
            DisconnectReason.CLIENT,
            DisconnectReason.LOST,
            DisconnectReason.BINARY,
            DisconnectReason.BAD_COMMANDS,
            DisconnectReason.SLOW,
        ):
            await end_connection(odin_scenario, reason)
        await deliver(odin_scenario)
        await request_missing_page(odin_scenario)
        await trio.sleep(10)
    assert lines_above_debug(logs) == []


async def test_failing_27_invalid_records_of_one_reason_are_one_line(
    odin_scenario: Scenario,
) -> None:
    """1,000 invalid records within 20 s are one line that names the reason."""
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
