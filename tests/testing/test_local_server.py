"""A server on a port of this machine, for clients in other processes."""

from __future__ import annotations

import json

import httpx
import pytest
import trio
import trio_websocket

from odin_ws.catalogue import Catalogue, load_catalogue
from odin_ws.kafka.source_status import SourceState
from odin_ws.testing.assertions import assert_delivered
from odin_ws.testing.local_server import LocalServer, open_local_server

SUBSCRIBE = '{"type":"subscribe","data":{"channels":["*.trade"]}}'


async def subscribed(url: str, nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
    """Return a connection of trio-websocket that is subscribed to all trades."""
    websocket = await trio_websocket.connect_websocket_url(nursery, url)
    await websocket.send_message(SUBSCRIBE)
    assert json.loads(await websocket.get_message())["type"] == "subscription_ack"
    return websocket


async def test_servers_share_a_log(odin_server: LocalServer, nursery: trio.Nursery) -> None:
    """Clients of both servers get the same records, whichever server publishes them."""
    async with open_local_server(log=odin_server.log) as other:
        sockets = [await subscribed(one.url, nursery) for one in (odin_server, other)]
        records = [one.publish("BTC", "trade") for one in (odin_server, other)]
        for socket in sockets:
            assert_delivered([json.loads(await socket.get_message()) for _ in records], records)
            await socket.aclose()


@pytest.mark.odin_settings(ws_max_subscriptions=1)
async def test_settings_of_the_marker_take_effect(odin_server: LocalServer) -> None:
    """With `ws_max_subscriptions=1` a second name is rejected."""
    async with trio_websocket.open_websocket_url(odin_server.url) as websocket:
        await websocket.send_message(SUBSCRIBE.replace("]", ', "BTC.balances"]'))
        assert json.loads(await websocket.get_message())["subscribed"] == ["*.trade"]


@pytest.mark.parametrize(("lost", "status"), [(False, 200), (True, 503)])
async def test_ops_port_shows_an_outage(
    odin_server: LocalServer,
    lost: bool,  # noqa: FBT001 -- a parameter
    status: int,
) -> None:
    """`/health` is served at the ops address, and follows the source's status."""
    if lost:
        odin_server.source.lose_broker()
        await odin_server.source.status.state.wait_value(SourceState.STALLED)
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{odin_server.ops_url}/health")).status_code == status


class TestAnotherDomain:
    """A fixture of a test module or conftest.py replaces the catalogue."""

    @pytest.fixture
    def odin_catalogue(self) -> Catalogue:
        """A catalogue of one topic."""
        return load_catalogue('[[topics]]\nname = "t"\ncategory = "c"\nevents = ["E"]\n')

    async def test_catalogue_is_served(self, odin_server: LocalServer) -> None:
        """Its channels can be subscribed to."""
        async with trio_websocket.open_websocket_url(odin_server.url) as websocket:
            await websocket.send_message('{"type":"subscribe","data":{"channels":["x.c"]}}')
            assert json.loads(await websocket.get_message())["subscribed"] == ["x.c"]
            odin_server.publish("x", "c")
            assert json.loads(await websocket.get_message())["data"]["type"] == "E"
