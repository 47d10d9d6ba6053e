"""Tokens over real sockets, with an independent client, and an issuer that rotates its key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration.running_source import until
from tests.integration.servers import Server, run_to_the_end, serving, started
from tests.jwt_issuer import SECRET, Issuer, issuer

OPS_TOKEN = "the operators' own token"  # noqa: S105 -- of these tests

JWT = {"WS_AUTH": "jwt", "WS_JWT_SECRET": SECRET}


def dial(server: Server, path: str = "/ws", **how: Any) -> Any:
    """Connect with `websockets`."""
    return connect(f"ws://{LOOPBACK}:{server.port}{path}", proxy=None, **how)


async def status_of(server: Server, path: str = "/ws", **how: Any) -> int:
    """The HTTP status of a rejection."""
    with pytest.raises(InvalidStatus) as caught:
        async with dial(server, path, **how):
            pass
    return caught.value.response.status_code


async def request(websocket: ClientConnection, kind: str, **data: Any) -> dict[str, Any]:
    """Send a command; return the next message."""
    await websocket.send(json.dumps({"type": kind, "data": data}))
    found: dict[str, Any] = json.loads(await websocket.recv())
    return found


def bearer(token: str) -> dict[str, str]:
    """The header with the token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def nowhere() -> str:
    """An address without a broker: authentication does not depend on Kafka."""
    return f"{LOOPBACK}:{free_ports(1)[0]}"


async def test_token_is_accepted_as_header_or_subprotocol(nowhere: str) -> None:
    """An independent client accepts the selected subprotocol, as browsers do."""
    token = issuer("HS256").token(channels=["*.trade"])
    async with serving(nowhere, JWT, ready=False) as server:
        async with dial(server, additional_headers=bearer(token)) as websocket:
            assert websocket.subprotocol is None
            ack = await request(websocket, "subscribe", channels=["BTC.trade", "BTC.balances"])
            assert ack["subscribed"] == ["BTC.trade"]
            assert [rejection["code"] for rejection in ack["rejected"]] == ["FORBIDDEN"]
        async with dial(server, subprotocols=["odin.v1", f"bearer.{token}"]) as websocket:
            assert websocket.subprotocol == "odin.v1"
            assert (await request(websocket, "heartbeat"))["type"] == "pong"
        assert await status_of(server) == 401
        assert await status_of(server, f"/ws?token={token}") == 401
        assert await status_of(server, subprotocols=[f"bearer.{token}"]) == 400
        assert token not in server.output
        assert await server.metric("ws_jwt_rejected_total") == 0


async def test_revocation_closes_connections_and_rejects_new_ones(nowhere: str) -> None:
    """The ops port requires its own token, except for the probes."""
    settings = JWT | {"WS_OPS_TOKEN": OPS_TOKEN}
    token = issuer("HS256").token()
    async with serving(nowhere, settings, ready=False) as server:
        assert (await server.get("/metrics")).status_code == 401
        async with dial(server, additional_headers=bearer(token)) as websocket:
            await request(websocket, "heartbeat")
            response = await server.post("/revocations", {"user": "ann"}, bearer(OPS_TOKEN))
            assert (response.status_code, response.json()["closed"]) == (200, 1)
            with pytest.raises(ConnectionClosed) as caught:
                await websocket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4403
        assert await status_of(server, additional_headers=bearer(token)) == 403
        assert OPS_TOKEN not in server.output


@asynccontextmanager
async def publishing(keys: list[Issuer]) -> AsyncIterator[str]:
    """Serve a key set for the length of the block; gives its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            body = json.dumps({"keys": [key.jwk for key in keys]}).encode()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            await stream.send_all(head + body)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=LOOPBACK))
        yield f"http://{LOOPBACK}:{listeners[0].socket.getsockname()[1]}/jwks.json"
        nursery.cancel_scope.cancel()


async def test_keys_are_read_from_a_url(nowhere: str) -> None:
    """Keys of the issuer are accepted, and no others."""
    keys = [issuer("RS256", "a"), issuer("EdDSA", "b")]
    async with (
        publishing(keys) as url,
        serving(nowhere, WS_AUTH="jwt", WS_JWKS=url, ready=False) as server,
    ):
        for key in keys:
            async with dial(server, additional_headers=bearer(key.token())) as websocket:
                assert (await request(websocket, "heartbeat"))["type"] == "pong"
        stranger = issuer("ES256", "c").token()
        assert await status_of(server, additional_headers=bearer(stranger)) == 401


async def test_invalid_auth_settings_stop_the_start(nowhere: str) -> None:
    """The start ends with status 2 and one line without secrets."""
    cases = {
        "WS_AUTH=jwt: exactly one of": {"WS_AUTH": "jwt"},
        "WS_JWT_SECRET: must have at least 32 bytes": {
            "WS_AUTH": "jwt",
            "WS_JWT_SECRET": "hush-hush",
        },
        "WS_OPS_TOKEN: must have at least 16 characters": {"WS_OPS_TOKEN": "hush-hush"},
        "WS_PRIVATE_CATEGORIES=secrets": JWT | {"WS_PRIVATE_CATEGORIES": "secrets"},
    }
    for line, settings in cases.items():
        status, output = await run_to_the_end({"KAFKA_BROKERS": nowhere, **settings})
        assert status == 2
        assert output.startswith(f"odin-ws: {line}")
        assert "hush" not in output
        assert output.count("\n") == 1


async def test_server_without_authentication_logs_it_at_the_start(nowhere: str) -> None:
    """The log tells an operator who forgot the setting."""
    with started({"KAFKA_BROKERS": nowhere}) as server:
        await server.responses("/health/live")
        assert server.events("authentication disabled")
    async with serving(nowhere, JWT, ready=False) as asking:
        assert not asking.events("authentication disabled")


async def test_revocation_reaches_every_worker(nowhere: str) -> None:
    """A revocation posted once closes connections of all workers; pages require the token too."""
    settings = JWT | {"WS_OPS_TOKEN": OPS_TOKEN, "WS_WORKERS": "2"}
    headers = bearer(issuer("HS256").token())
    async with serving(nowhere, settings, ready=False) as server:
        assert (await server.get("/metrics")).status_code == 401
        await until(lambda: _all_workers_answer(server))
        async with AsyncExitStack() as clients:
            websockets = [
                await clients.enter_async_context(dial(server, additional_headers=headers))
                for _ in range(8)
            ]
            response = await server.post("/revocations", {"user": "ann"}, bearer(OPS_TOKEN))
            assert (response.status_code, response.json()["closed"]) == (200, 8)
            for websocket in websockets:
                with pytest.raises(ConnectionClosed):
                    await websocket.recv()
        for _ in range(8):
            assert await status_of(server, additional_headers=headers) == 403


async def _all_workers_answer(server: Server) -> bool:
    """Whether both workers answer, which takes a second after the start."""
    response = await server.post("/revocations", {"user": "nobody", "until": 0}, bearer(OPS_TOKEN))
    return response.status_code == 200
