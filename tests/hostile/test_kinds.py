"""The kinds of hostile clients reach the code that they are about, and harm nobody in memory."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, cast

import pytest
import trio

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Subscribe
from odin_ws.protocol.filters.parser import MAX_TERMS, read_filter
from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.hostile.kinds import KINDS as FIRST_KINDS
from tests.hostile.registry import AT_ONCE, KINDS, ON_OPS_PORT
from tests.hostile.stream_kinds import STREAM_KINDS, largest_filter
from tests.scenarios.ops import metric
from tests.scenarios.resume.following import publish_long

# Needs a socket.
RESETS = {"reset_replays"}

# How the server ends a visit within the time of the test; it bears with the others.
CLOSES = {
    "deflate_bomb": "message_too_large",
    "deflate_flood": "flooding",
    "sse_talking": "protocol_error",
}
BY_CLIENTS = {"client_closed", "connection_lost"}


def test_every_kind_has_a_name_of_its_own_and_a_description() -> None:
    """Those of `--kind`."""
    assert len(KINDS) == len(FIRST_KINDS) + len(STREAM_KINDS)
    assert all(visit.__doc__ for visit in KINDS.values())
    assert {*KINDS.values()} >= AT_ONCE | ON_OPS_PORT


def test_largest_filter_is_permitted_and_distinct() -> None:
    """It has as many comparisons as there may be, within a command."""
    first, second = (read_filter(largest_filter(number)) for number in range(2))
    assert first.terms == second.terms == MAX_TERMS
    assert first != second
    data = {"channels": ["*.*"], "where": largest_filter(10**6)}
    text = json.dumps({"type": "subscribe", "data": data}, separators=(",", ":"))
    assert 4_000 < len(text) < Settings().ws_max_message_bytes
    assert isinstance(decode_command(text, default_catalogue()), Subscribe)


@pytest.mark.parametrize(
    "name", [one.__name__ for one in STREAM_KINDS if one.__name__ not in RESETS]
)
async def test_stream_kind_harms_nobody(
    odin_scenario: Scenario, nursery: trio.Nursery, name: str
) -> None:
    """A subscriber beside four of a kind gets everything, and nothing is left of them."""
    await publish_long(odin_scenario, 400)
    good = Follower("T1.trade")
    await good.connect(nursery, odin_scenario)
    await trio.sleep(0.1)
    async with trio.open_nursery() as crowd:
        for _ in range(4):
            stream = await odin_scenario.dial()
            # It uses nothing that a stream in memory has not.
            crowd.start_soon(_visit, name, cast("Any", stream))
        await publish_long(odin_scenario, 300)
        await trio.sleep(3)
        stats = odin_scenario.service.server.stats
        # A snapshot over HTTP is no connection.
        assert stats.opened == (1 if name == "snapshot_pages" else 5)
        crowd.cancel_scope.cancel()
    await trio.sleep(20)
    good.check(odin_scenario.log.records)
    assert len(good.messages) == 43
    assert good.closed is None
    assert await metric(odin_scenario, "ws_errors_total") == 0
    assert await metric(odin_scenario, "ws_connections_active") == 1
    assert await metric(odin_scenario, "ws_filters") == 0
    assert await metric(odin_scenario, "ws_replay_window_used_bytes") == 0
    closed = Counter({one.value.label: n for one, n in stats.closed.items()})
    if name in CLOSES:
        assert closed == {CLOSES[name]: 4}
    else:
        assert closed.keys() <= BY_CLIENTS


async def _visit(name: str, stream: Any) -> None:
    try:
        await KINDS[name](stream)
    except trio.BrokenResourceError:
        pass
    finally:
        stream.break_off()
