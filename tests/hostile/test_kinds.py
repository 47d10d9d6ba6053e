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
from odin_ws.protocol.permessage_deflate import NO_WINDOW
from odin_ws.protocol.wire_format import Frames
from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.scenario import Scenario
from tests.hostile.kinds import CHANNELS
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
    "name", [kind.__name__ for kind in STREAM_KINDS if kind.__name__ not in RESETS]
)
async def test_stream_kind_affects_no_other_client(
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


# What two clients of each kind make the server count: a kind without an effect would prove nothing.
# Those that are not here need sockets; verdicts.py looks for their effects.
EFFECTS: dict[str, set[str]] = {
    "slow_head": {"rejected handshake_timeout"},
    "half_a_head": {"rejected handshake_timeout"},
    "silent": {"rejected handshake_timeout"},
    "endless_head": {"rejected header_too_large"},
    "garbage": {"rejected bad_request"},
    "tls_hello": {"rejected bad_request"},
    "wrong_upgrade": {"rejected bad_method"},
    "vanishing": {"lost before the upgrade"},
    "returning": {"commands", "closed connection_lost"},
    "half_open": {"messages", "closed no_pong"},
    "no_reader": {"messages", "closed slow"},
    "ping_flood": {"closed flooding"},
    "command_flood": {"error RATE_LIMIT_EXCEEDED", "closed flooding"},
    "fragments": {"closed message_too_large"},
    "unfinished": {"closed unfinished"},
    "huge_frame": {"closed message_too_large"},
    "many_names": {"error INVALID_MESSAGE"},
    "deep_json": {"error INVALID_JSON"},
    "after_close": {"closed client_closed"},
    "bad_frames": {"closed protocol_error"},
    "binary": {"closed binary_frame"},
    "replays": {"replays", "error RATE_LIMIT_EXCEEDED", "closed slow"},
    "own_names": {"names", "name TOO_MANY_SUBSCRIPTIONS"},
    "snapshots": {"replays", "messages"},
    "one_snapshot": {"replays", "messages"},
    "resumes": {"replays", "messages", "names"},
    "since": {"replays", "messages", "names"},
    "on_and_off": {"names", "error RATE_LIMIT_EXCEEDED"},
    "going": {"commands", "closed connection_lost"},
    "sse_no_reader": {"streams", "messages", "closed slow"},
    "sse_returning": {"commands", "closed client_closed"},
    "sse_since": {"streams", "replays", "messages", "closed slow"},
    "sse_filters": {"streams", "filters"},
    "sse_talking": {"closed protocol_error"},
    "snapshot_pages": {"request snapshot"},
    "filters": {"filters"},
    "rates": {"rates"},
    "rates_of_own_names": {"rates"},
    "own_pairs": {"rates", "filters", "messages"},
    "waiting_filters": {"replays", "error RATE_LIMIT_EXCEEDED"},
    "since_times": {"replays"},
    "deflate_bomb": {"closed message_too_large"},
    "deflate_flood": {"deflate", "error RATE_LIMIT_EXCEEDED", "closed flooding"},
    "deflate_no_end": {"deflate", "closed message_too_large"},
    "batch_no_reader": {"deflate", "batches", "messages"},
    "batch_replays": {"batches", "replays", "messages", "closed slow"},
    "stalled_replays": {"replays", "messages", "closed slow"},
    "reset_replays": {"replays", "messages", "closed connection_lost"},
}


class _Socket:
    """A stream in memory with the option that kinds set: to linger for no time is a reset."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def setsockopt(self, _level: int, _option: int, _value: bytes) -> None:
        """Reset the connection."""
        self._stream.break_off()


def _under_way(scenario: Scenario) -> Counter[str]:
    """Count what connections have now."""
    found = Counter[str]()
    for connection in scenario.service.server.connections:
        subscriber = connection.subscriber
        found["names"] += len(subscriber.patterns) >= 500
        found["streams"] += subscriber.form.event_ids is not None
        found["deflate"] += subscriber.form.window_bits != NO_WINDOW
        found["batches"] += subscriber.form.frames is Frames.BATCH
        found["rates"] += subscriber.paces is not None
        found["filters"] += any(
            options.where is not None for options in (subscriber.options or {}).values()
        )
    return found


async def _effects(scenario: Scenario, name: str) -> Counter[str]:
    """Return what the server counts while two clients of a kind visit it."""
    for token, topic in CHANNELS[:50] * 3:
        scenario.log.append(topic, token.encode(), b'{"type":"TRADE_EXECUTED","timestamp":0}')
    await publish_long(scenario, 400)
    server, found = scenario.service.server, Counter[str]()
    async with trio.open_nursery() as crowd:
        for _ in range(2):
            # It uses nothing that a stream in memory has not.
            crowd.start_soon(_visit, name, _Socket(await scenario.dial(64 << 10)))
        for _ in range(100):
            await trio.sleep(0.08)
            # The largest number at a time.
            found |= _under_way(scenario)
            await publish_long(scenario, 4)
        crowd.cancel_scope.cancel()
    await trio.sleep(20)
    assert server.stats.errors == 0
    stats, sessions, rejections = server.stats, server.stats.sessions, server.admission.rejections
    requests = server.http.requests
    found["lost before the upgrade"] = 2 - stats.opened - (rejections + requests).total()
    found["commands"] = sessions.commands
    found["messages"] = scenario.service.hub.stats.messages_sent
    found["replays"] = server.replays.results.total()
    found.update({f"closed {one.value.label}": count for one, count in stats.closed.items()})
    found.update({f"rejected {label}": count for label, count in rejections.items()})
    found.update({f"error {code}": count for code, count in sessions.rejected_commands.items()})
    found.update({f"name {code}": count for code, count in sessions.rejected_names.items()})
    found.update({f"request {resource}": count for resource, count in requests.items()})
    return found


def test_effect_of_every_kind_is_known() -> None:
    """Kinds without one are those that need sockets."""
    assert KINDS.keys() - EFFECTS.keys() == {
        "forged_forwarded",
        *(visit.__name__ for visit in ON_OPS_PORT),
    }


@pytest.mark.parametrize("name", EFFECTS)
async def test_kind_has_its_effect(odin_scenario: Scenario, name: str) -> None:
    """Each client of the kind has each effect at least once."""
    found = await _effects(odin_scenario, name)
    assert {effect for effect in EFFECTS[name] if found[effect] < 2} == set(), found
