"""Applications of the installed Python client, of both shells, while servers are restarted."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import odin_ws_client.asyncio
import odin_ws_client.trio
from odin_ws.settings import Settings
from odin_ws.testing.local_server import open_local_server
from odin_ws.testing.ports import LOOPBACK
from odin_ws_client import ConnectFailed, Disconnected, Item, Subscribed, Subscription
from tests.client_js.follower import FollowerEvent
from tests.client_js.instances import ALL, Instance, memory_log, restart_twice
from tests.client_python.applications import EXTRAS, build_wheel, follow, install
from tests.integration.events import event
from tests.integration.running_source import PATIENCE, Publisher
from tests.integration.servers import Server, serving
from tests.listener.certificates import Authority

# Seconds between two records: a restart lasts for a hundred of them.
PACE = 0.02

each_shell = pytest.mark.parametrize("shell", EXTRAS)


@pytest.fixture(scope="session")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An interpreter for each shell, in an environment without the server."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("environments")
    return {shell: install(wheel, folder / shell, extra) for shell, extra in EXTRAS.items()}


@each_shell
async def test_application_gets_every_record_through_restarts(
    nursery: trio.Nursery, pythons: dict[str, Path], shell: str
) -> None:
    """Once, whether the server is drained or killed."""
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    async with follow(pythons[shell], shell, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("Subscribed")
        await restart_twice(nursery, address, instance, follower)


@each_shell
async def test_application_gets_every_record_through_a_rolling_restart(
    pythons: dict[str, Path], shell: str, topics: str, token: str
) -> None:
    """Two instances behind a balancer are replaced one after the other while records come."""
    published = 0

    async def publish() -> None:
        nonlocal published
        publisher = Publisher(topics)
        while True:
            await publisher.publish([event(token, "trade", published)])
            published += 1
            await trio.sleep(PACE)

    received: list[FollowerEvent] = []
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(topics)) for _ in range(2)]
        port = await stack.enter_async_context(balancer(servers))
        wanted = {"channels": [f"{token}.trade"]}
        follower = await stack.enter_async_context(
            follow(pythons[shell], shell, f"ws://{LOOPBACK}:{port}/ws", wanted)
        )
        await follower.notice("Subscribed")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            for _ in range(2):
                received += await follower.messages(20)
                old = servers.pop(0)
                old.signal(signal.SIGTERM)
                assert await old.ended() == 0
                servers.append(await stack.enter_async_context(serving(topics)))
            received += await follower.messages(20)
            nursery.cancel_scope.cancel()
        received += await follower.messages(published - len(received))
    assert [one.item["data"]["data"]["n"] for one in received] == list(range(published))
    assert received[-1].duplicates == 0


@asynccontextmanager
async def balancer(servers: list[Server]) -> AsyncIterator[int]:
    """A port from which each connection goes to the first of the servers."""

    async def relay(near: trio.SocketStream) -> None:
        async with (
            near,
            await trio.open_tcp_stream(LOOPBACK, servers[0].port) as far,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_pass_on, near, far)
            await _pass_on(far, near)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, relay, 0, host=LOOPBACK))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)


@each_shell
async def test_client_verifies_the_certificate(shell: str, tmp_path: Path) -> None:
    """Over TLS it subscribes to a server that it trusts, and to no other; that does not change."""
    authority = Authority(tmp_path)
    tls = Settings(ws_tls_cert=authority.chain, ws_tls_key=authority.key)
    async with open_local_server(tls) as server:
        url = server.url.replace("ws:", "wss:")
        trusted = await first_item(shell, url, authority.client_context())
        assert isinstance(trusted, Subscribed)
        with pytest.raises(ConnectFailed, match="certificate") as caught:
            await first_item(shell, url, None)
        assert caught.value.permanent


async def first_item(shell: str, url: str, tls: ssl.SSLContext | None) -> Item:
    """The first item that is not the end of a client of a shell."""
    wanted = Subscription(channels=["*.trade"])

    async def follow(open_client: Callable[..., Any]) -> Item:
        async with open_client(url, wanted, tls=tls) as client:
            async for item in client:
                if not isinstance(item, Disconnected):
                    assert isinstance(item, Item)
                    return item
        raise AssertionError("the client has ended without an error")

    if shell == "trio":
        with trio.fail_after(PATIENCE):
            return await follow(odin_ws_client.trio.open_client)
    there = follow(odin_ws_client.asyncio.open_client)
    return await trio.to_thread.run_sync(asyncio.run, asyncio.wait_for(there, PATIENCE))
