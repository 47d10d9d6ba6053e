"""The short form of the stack: alerts fire and are resolved, and each panel has data.

`make stack-long` also restarts the instances under 500 clients; tests/integration/test_chaos.py
does so under 40.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from odin_ws.testing.brokers import BrokerUnavailable
from tests.deploy.debian import program
from tests.deploy.queries import RULES
from tests.integration import kafka
from tests.stack.course import FASTER, RATE, SETTINGS, alerts_fire_and_resolve, panels_without_data
from tests.stack.rules import shortened
from tests.stack.stack import Options, open_stack

ALERTS = ["OdinWsInstanceDown", "OdinWsSlowClients", "OdinWsFeedStalled"]


@pytest.fixture(autouse=True)
def programs() -> None:
    """Skip the test without HAProxy and Prometheus."""
    program("haproxy")
    program("prometheus")


def test_rules_are_shortened() -> None:
    """Durations after `for:` and in ranges are divided, to at least one second; nothing else is."""
    text = "  for: 2m\n  expr: rate(a[5m]) > 14 * 86400 and b[30s]\n  at: 5m\n"
    short = "  for: 4000ms\n  expr: rate(a[10000ms]) > 14 * 86400 and b[1000ms]\n  at: 5m\n"
    assert shortened(text, 30) == short
    assert shortened(RULES.read_text("utf-8"), FASTER) != RULES.read_text("utf-8")


@pytest.mark.timeout(240)
async def test_alerts_fire_and_resolve(tmp_path: Path) -> None:
    """A killed instance, many slow clients and a stopped broker raise their alerts."""
    options = Options(rate=RATE, faster=FASTER, interval=1, settings=SETTINGS)
    try:
        async with open_stack(options, tmp_path, print) as stack:
            seen = await alerts_fire_and_resolve(stack, print)
            empty = await panels_without_data(stack)
    except BrokerUnavailable as error:
        kafka.missing(str(error))
    assert [one.alert for one in seen] == ALERTS
    assert not [one.summary for one in seen if "error" in one.summary]
    assert empty == []
