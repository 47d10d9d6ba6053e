"""Failings of the earlier server in handling its own bugs, by their numbers."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.hub import hub
from odin_ws.protocol.commands import Command
from odin_ws.records import Record
from odin_ws.session import session
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.buggy_transport import open_buggy
from tests.scenarios.logs import lines_above_debug
from tests.scenarios.wire import RawClient, request


async def test_failing_29_exception_in_connection_closes_only_that_one(
    odin_scenario: Scenario,
) -> None:
    """It gets 1011, and is counted and logged once with a traceback; other connections continue."""
    other = await odin_scenario.connect()
    await other.subscribe(channels=["BTC.trade"])
    client, wire = await open_buggy(odin_scenario)
    await client.subscribe("BTC.trade")
    with capture_logs() as logs:
        wire.fail()
        assert await client.close_frame() == (1011, "internal error")
        await trio.sleep(10)
    (line,) = [line for line in logs if line["log_level"] != "debug"]
    assert (line["event"], line["log_level"]) == ("connection failed", "error")
    assert line["exc_info"]
    assert odin_scenario.service.server.stats.errors == 1
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.INTERNAL: 1}
    odin_scenario.publish("BTC", "trade", "still served")
    assert (await other.message())["data"]["data"] == "still served"


async def test_failing_29_exception_in_command_closes_only_that_connection(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pending responses are sent before 1011, also to a slow client; another client continues."""
    other = await odin_scenario.connect()
    client = await RawClient.open(odin_scenario, capacity=100)
    await client.command("heartbeat")
    await client.command("subscribe", channels=["nonsense"])
    await trio.sleep(0.1)

    def failing(*_arguments: object) -> Command:
        raise ZeroDivisionError("a bug in a command")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(session, "decode_steps", failing)
        await client.command("heartbeat")
        *responses, last = await client.rest()
        await trio.sleep(10)
    assert [response.json["type"] for response in responses] == ["pong", "subscription_ack"]
    assert last.close == (1011, "internal error")
    assert lines_above_debug(logs) == ["connection failed"]
    assert (await other.command("heartbeat"))["type"] == "pong"


async def test_failing_29_exception_in_handshake_closes_only_that_connection(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted and logged; other clients continue and new ones are accepted."""
    other = await odin_scenario.connect()

    def overload() -> str | None:
        raise ZeroDivisionError("a bug in admission")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(odin_scenario.service.server.admission, "overload", overload)
        client = await RawClient.dial(odin_scenario, request())
        assert await client.rest_bytes() == b""
    assert lines_above_debug(logs) == ["connection failed"]
    assert odin_scenario.service.server.stats.errors == 1
    assert (await other.command("heartbeat"))["type"] == "pong"
    await RawClient.open(odin_scenario)


async def test_failing_29_exception_in_hub_ends_the_service(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exception is raised from the service; clients get 1012."""

    def failing(*_arguments: object, **_options: object) -> bytes:
        raise ZeroDivisionError("a bug in the hub")

    monkeypatch.setattr(hub, "write", failing)
    streams: list[RawClient] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ZeroDivisionError, match="a bug in the hub"), flatten_subgroups=True
    ):
        async with open_scenario() as scenario:
            streams.append(await RawClient.open(scenario))
            await streams[0].subscribe("BTC.trade")
            scenario.publish("BTC", "trade")
            await trio.sleep(60)
    assert (await streams[0].close_frame())[0] == 1012


class BuggyLog(MemoryLog):
    """A log whose `read` raises."""

    def read(self, *_arguments: object) -> list[Record]:
        """Raise ZeroDivisionError."""
        raise ZeroDivisionError("a bug in the source")


async def test_failing_29_exception_in_source_ends_the_service(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """The exception is raised from the service; clients get 1012."""
    streams: list[RawClient] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ZeroDivisionError, match="a bug in the source"), flatten_subgroups=True
    ):
        async with open_scenario(log=BuggyLog(default_catalogue().topics)) as scenario:
            streams.append(await RawClient.open(scenario))
            scenario.publish("BTC", "trade")
            await trio.sleep(60)
    assert (await streams[0].close_frame())[0] == 1012
