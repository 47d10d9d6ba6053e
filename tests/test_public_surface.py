"""The public names, as docs/design/2026-11-30-public-surface.md defines them."""

from __future__ import annotations

import importlib
import re
from typing import assert_type

import pytest
import trio

import odin_ws
import odin_ws_client
from odin_ws import settings
from odin_ws.testing import memory_log, scenario
from odin_ws_client import trio as trio_client
from tests.docs.pages import pages

PUBLIC = {
    "odin_ws": ["__version__"],
    "odin_ws_client": [
        "ClientClosed",
        "ClientError",
        "ClosedByServer",
        "ConnectFailed",
        "CredentialSource",
        "Disconnected",
        "FeedChange",
        "HandshakeRejected",
        "InvalidCredential",
        "InvalidUrl",
        "Item",
        "Lost",
        "Message",
        "QueueFull",
        "Positions",
        "ProtocolViolated",
        "RejectedName",
        "Resumed",
        "Subscribed",
        "Subscription",
        "SubscriptionRejected",
        "Unsubscribed",
    ],
    "odin_ws_client.asyncio": ["Client", "open_client"],
    "odin_ws_client.trio": ["Client", "open_client"],
    "odin_ws.settings": [
        "Secret",
        "Setting",
        "Settings",
        "SettingsError",
        "declared_settings",
        "load_settings",
    ],
    "odin_ws.testing.assertions": [
        "assert_delivered",
        "assert_offsets",
        "assert_positions",
        "assert_sequence",
        "offsets_of",
        "position_of",
    ],
    "odin_ws.testing.brokers": [
        "ApacheKafka",
        "Broker",
        "BrokerFailed",
        "BrokerListener",
        "BrokerListeners",
        "BrokerUnavailable",
        "apache_kafka",
        "embedded_broker",
        "format_storage",
        "java_command",
    ],
    "odin_ws.testing.cluster": ["ApacheCluster", "ClusterNode", "apache_cluster"],
    "odin_ws.testing.conformance": [
        "Case",
        "Delivery",
        "Outcome",
        "Requests",
        "Result",
        "Run",
        "difference",
        "play_case",
        "read_cases",
        "run_program",
    ],
    "odin_ws.testing.faults": [
        "cut_log",
        "delete_log_before",
        "go_half_open",
        "read_slowly",
        "rebalanced",
        "stalled_broker",
        "tear_next_frame",
    ],
    "odin_ws.testing.follower": ["Follower", "Interest", "by_topic", "key_of", "wanted"],
    "odin_ws.testing.local_server": ["LocalServer", "open_local_server"],
    "odin_ws.testing.memory_log": ["MemoryLog", "MemorySource"],
    "odin_ws.testing.memory_log_reader": ["MemoryLogReader"],
    "odin_ws.testing.plugin": [
        "odin_catalogue",
        "odin_scenario",
        "odin_server",
        "odin_settings",
        "pytest_configure",
        "pytest_itemcollected",
    ],
    "odin_ws.testing.scenario": ["Closed", "Scenario", "ScenarioClient", "open_scenario"],
}


@pytest.mark.parametrize(("module", "names"), PUBLIC.items())
def test_public_module_exports_the_listed_names(module: str, names: list[str]) -> None:
    """A name that is added or removed is a decision and changes this list."""
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(names)
    assert all(hasattr(found, name) for name in names)


def test_pages_import_only_public_modules() -> None:
    """Examples in docs/ use no module that may change without notice."""
    imported = {
        match[1]
        for path in pages()
        for match in re.finditer(r"(?m)^from (odin_ws[\w.]*) import", path.read_text("utf-8"))
    }
    assert imported <= PUBLIC.keys()


async def use_the_client() -> None:
    """Use the client as its users do, for the type checker; never run."""
    assert_type(odin_ws.__version__, str)
    subscription = odin_ws_client.Subscription(channels=["BTC.trade"])
    async with trio_client.open_client("ws://localhost:3002/ws", subscription) as following:
        assert_type(following, trio_client.Client)
        async for item in following:
            match item:
                case odin_ws_client.Message():
                    assert_type(item.channel, str)
                    assert_type(item.offset, int)
                case odin_ws_client.Disconnected():
                    assert_type(item.retry_in, float | None)
                case _:
                    pass


async def use_a_scenario() -> None:
    """Use a scenario as its users do, for the type checker; never run."""
    log = memory_log.MemoryLog(["odin.trades"], 2)
    async with scenario.open_scenario(settings.Settings(ws_max_subscriptions=2), log=log) as server:
        assert_type(server, scenario.Scenario)
        follower = await server.connect()
        assert_type(follower, scenario.ScenarioClient)
        assert_type(await follower.silence(1), bool)
        assert_type((await follower.closed()).code, int)
    await trio.lowlevel.checkpoint()
