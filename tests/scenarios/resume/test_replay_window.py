"""A crowd of replays does not fill the kernel's memory, and nobody waits forever for another."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.resources.tcp_memory import tcp_memory
from odin_ws.testing.follower import Follower
from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.resume.following import following, publish_long
from tests.scenarios.wire import Op, frame, request

CHUNK_BYTES = 64 << 10
LIMIT = 64 * CHUNK_BYTES
# Clients that read nothing get 256 KiB each before others wait: so many fill the window.
MANY = 20
# Each of a replay's messages has 1,000 bytes and some more; a frame of a chunk is a little longer.
CHUNK_FRAMES = CHUNK_BYTES * 5 // 4
# The upgrade and the acknowledgement of the subscription.
ANSWER_BYTES = 2000
EVERYTHING = b'{"type":"subscribe","data":{"channels":["*.trade"],"since_ms":0}}'


def connections(scenario: Scenario) -> list[Connection]:
    """The server's."""
    return list(scenario.service.server.connections)


def unread(scenario: Scenario) -> int:
    """The bytes that the kernel would hold for all clients."""
    return sum(
        connection.written - connection.acknowledged() for connection in connections(scenario)
    )


def slow(scenario: Scenario) -> int:
    """How many are being closed as slow."""
    return sum(connection.closing is DisconnectReason.SLOW for connection in connections(scenario))


async def stalled(scenario: Scenario, count: int) -> list[ClientStream]:
    """Clients that ask for everything and read nothing."""
    streams = []
    for _ in range(count):
        stream = await scenario.dial()
        await stream.send_all(request() + frame(Op.TEXT, EVERYTHING))
        streams.append(stream)
    return streams


@pytest.fixture
def scenario(odin_scenario: Scenario) -> Scenario:
    """A server whose replay window has 64 chunks."""
    odin_scenario.service.server.replay_window.limit = LIMIT
    return odin_scenario


async def test_unread_bytes_of_a_crowd_of_replays_are_bounded(scenario: Scenario) -> None:
    """Of 50 clients that read nothing; the kernel would take a MiB of each."""
    await publish_long(scenario, 1000)
    await stalled(scenario, 50)
    await trio.sleep(5)
    assert LIMIT <= unread(scenario) < LIMIT + CHUNK_FRAMES + 50 * ANSWER_BYTES
    assert LIMIT <= await metric(scenario, "ws_replay_window_used_bytes") < LIMIT + CHUNK_FRAMES
    assert await metric(scenario, "ws_replay_window_waiting") > 0
    assert await metric(scenario, "ws_replay_window_bytes") == LIMIT


async def test_crowd_that_reads_gets_everything_within_the_bound(
    scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Each record once and in order, and nothing counts as unread afterwards."""
    scenario.service.server.replay_window.limit = 4 * CHUNK_BYTES
    await publish_long(scenario, 300)
    crowd = [following(scenario.log.records, "*.trade") for _ in range(30)]
    for follower in crowd:
        await follower.connect(nursery, scenario)
    most = 0
    while not all(follower.live for follower in crowd):
        most = max(most, unread(scenario))
        await trio.sleep(0.01)
    await trio.sleep(5)
    for follower in crowd:
        follower.check(scenario.log.records)
        assert follower.closed is None
    assert most < 6 * CHUNK_FRAMES
    assert await metric(scenario, "ws_replay_window_used_bytes") == 0


async def test_clients_that_read_nothing_hold_up_others_for_the_write_timeout(
    scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Then they are closed as slow, and those behind them go on."""
    await publish_long(scenario, 400)
    await stalled(scenario, MANY)
    await trio.sleep(1)
    good = following(scenario.log.records, "*.trade")
    await good.connect(nursery, scenario)
    await trio.sleep(8)
    assert not good.messages
    assert slow(scenario) == 0
    await trio.sleep(3)
    good.check(scenario.log.records)
    assert len(good.messages) == 400
    assert good.closed is None
    assert slow(scenario) >= LIMIT // (5 * CHUNK_FRAMES)


async def test_live_messages_do_not_wait_for_replays(
    scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A subscriber without a replay gets its messages while the window is full."""
    await publish_long(scenario, 400)
    await stalled(scenario, MANY)
    live = Follower("ETH.trade")
    await live.connect(nursery, scenario)
    await trio.sleep(1)
    assert await metric(scenario, "ws_replay_window_waiting") > 0
    scenario.publish("ETH", "trade")
    await trio.sleep(0.2)
    assert len(live.messages) == 1


async def test_clients_that_leave_make_room(scenario: Scenario, nursery: trio.Nursery) -> None:
    """Before any timeout: a connection that has ended holds nothing."""
    await publish_long(scenario, 400)
    streams = await stalled(scenario, MANY)
    await trio.sleep(1)
    assert await metric(scenario, "ws_replay_window_waiting") > 0
    for stream in streams:
        stream.break_off()
    good = following(scenario.log.records, "*.trade")
    await good.connect(nursery, scenario)
    await trio.sleep(2)
    good.check(scenario.log.records)
    assert len(good.messages) == 400
    await trio.sleep(2)
    assert await metric(scenario, "ws_replay_window_used_bytes") == 0


async def test_one_client_that_reads_nothing_gets_no_more_than_its_share(
    scenario: Scenario,
) -> None:
    """256 KiB and one chunk of a window of 4 MiB, though the kernel would take 400 KB."""
    await publish_long(scenario, 400)
    await stalled(scenario, 1)
    await trio.sleep(20)
    assert unread(scenario) < 5 * CHUNK_FRAMES
    assert slow(scenario) == 0


async def test_replays_that_wait_for_their_turn_reserve_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a crowd thousands wait so; room for all of them would leave none for those with a turn."""
    monkeypatch.setattr(scenario.service.server.scans, "wait_for_chunk", trio.sleep_forever)
    await publish_long(scenario, 100)
    await stalled(scenario, 10)
    await trio.sleep(1)
    assert await metric(scenario, "ws_replay_window_used_bytes") == 0


@pytest.mark.odin_settings(ws_memory_limit=800_000_000, ws_workers=2)
async def test_window_follows_from_memory(odin_scenario: Scenario) -> None:
    """An eighth of the least of the kernel's memory for TCP and the process's memory."""
    window = odin_scenario.service.server.replay_window
    assert window.limit == min(tcp_memory() // 2, 400_000_000) // 8


# Without a memory limit: the process of the tests may have more memory than the limit above.
@pytest.mark.odin_settings(ws_write_timeout_seconds=3)
async def test_window_closes_stalled_clients_after_the_write_timeout(
    odin_scenario: Scenario,
) -> None:
    """While others wait for their share."""
    odin_scenario.service.server.replay_window.limit = LIMIT
    await publish_long(odin_scenario, 400)
    await stalled(odin_scenario, MANY)
    await trio.sleep(2.5)
    assert slow(odin_scenario) == 0
    await trio.sleep(1)
    assert slow(odin_scenario) > 0
