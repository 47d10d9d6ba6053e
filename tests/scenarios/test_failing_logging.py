"""What the earlier server got wrong about its log, by the numbers of its list of failings."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.endings import end
from tests.scenarios.logs import lines_above_debug
from tests.scenarios.moves import ask_for_a_page, deliver


async def test_failing_27_traffic_is_not_logged(odin_scenario: Scenario) -> None:
    """Connections, commands, messages and ends, good or bad, leave no line at info."""
    with capture_logs() as logs:
        for reason in (
            DisconnectReason.CLIENT,
            DisconnectReason.LOST,
            DisconnectReason.BINARY,
            DisconnectReason.BAD_COMMANDS,
            DisconnectReason.SLOW,
        ):
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
