"""A server that cannot start prints one line with the reason, and exits."""

from __future__ import annotations

import resource
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest
import trio
from websockets.exceptions import InvalidStatus

from odin_ws.testing.ports import LOOPBACK
from tests.integration.running_source import wait_until
from tests.integration.servers import connected, run_to_the_end, serving, started
from tests.scenarios.wire import request


async def test_misspelt_setting_is_named() -> None:
    """A near miss stops the start with status 2 and one line with the name and the right one."""
    status, output = await run_to_the_end({"WS_MAX_CONECTIONS": "5", "KAFKA_GROUP_ID": "mine"})
    assert status == 2
    assert "WS_MAX_CONECTIONS: unknown setting; did you mean WS_MAX_CONNECTIONS?" in output
    assert "KAFKA_GROUP_ID: unknown setting; did you mean KAFKA_CONSUMER_GROUP?" in output
    assert len(output.splitlines()) == 2


async def test_too_few_descriptors_lower_the_connections_with_a_warning() -> None:
    """The server starts, and logs the number of descriptors and their use."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))

    settings = {"WS_MAX_CONNECTIONS": "5000", "LOG_LEVEL": "info"}
    with started({"KAFKA_BROKERS": f"{LOOPBACK}:1", **settings}, prepare) as server:
        await server.responses("/health/live")
        limits = (await server.health())["checks"]["limits"]
        (line,) = server.events("descriptors")
        assert (line["limit"], line["reserve"], line["connections"]) == (300, 150, 113)
        assert limits["max_connections"] == 113
        (warned,) = [line for line in server.lines if "WS_MAX_CONNECTIONS=5000 is lowered" in line]
        assert "300" in warned
        async with AsyncExitStack() as stack:
            for _ in range(113):
                await stack.enter_async_context(connected(server))
            with pytest.raises(InvalidStatus, match="503"):
                await stack.enter_async_context(connected(server))
            # The reserved descriptors exist.
            assert await server.metric("ws_connections_active") == 113


async def test_server_without_descriptors_continues() -> None:
    """It serves connected clients without reading memory or CPU, and accepts new ones later."""
    async with (
        serving(f"{LOOPBACK}:1", {}, ready=False) as server,
        connected(server) as client,
    ):
        process = psutil.Process(server.process.pid)
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        # Numbers below 3 are in use for good: descriptors that the server closes are no help.
        process.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
        async with trio.open_nursery() as nursery:

            async def check_rate() -> None:
                with suppress(OSError, trio.BrokenResourceError):
                    async with await trio.open_tcp_stream(LOOPBACK, server.port) as stream:
                        await stream.send_all(request())
                        await stream.receive_some(100)

            for _ in range(5):
                nursery.start_soon(check_rate)
            await wait_until(lambda: server.events("resource not measurable"))
            await trio.sleep(2)
            assert server.process.poll() is None, server.output
            assert (await client.command("heartbeat"))["type"] == "pong"
            process.rlimit(psutil.RLIMIT_NOFILE, before)
        await wait_until(lambda: server.events("resource measured again"))
        async with connected(server) as newcomer:
            assert (await newcomer.command("heartbeat"))["type"] == "pong"
        assert await server.metric("ws_memory_bytes") > 0
    reported = [line["resource"] for line in server.events("resource not measurable")]
    assert len(reported) == len(set(reported))


@pytest.mark.parametrize("setting", ["WS_ADDR", "WS_OPS_ADDR"])
async def test_port_in_use_stops_the_start_with_one_line(setting: str) -> None:
    """The line names the port; there is no traceback."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        status, output = await run_to_the_end({setting: address, "KAFKA_BROKERS": f"{LOOPBACK}:1"})
    assert status == 1
    assert "Traceback" not in output
    last = f"odin-ws: cannot listen at {address}: Address already in use"
    assert output.splitlines()[-1] == last


@pytest.mark.parametrize(
    "settings",
    [
        {"WS_AUTH": "jwt", "WS_JWKS": "https://login.invalid/jwks.json"},
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_SASL_TOKEN_URL": "https://login.invalid/token",
            "KAFKA_SASL_CLIENT_ID": "odin-ws",
            "KAFKA_SASL_CLIENT_SECRET": "hush",
        },
    ],
    ids=["keys", "tokens"],
)
async def test_missing_authorities_stop_the_start_with_one_line(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """The environment's authorities are needed if a URL is requested over TLS."""
    path = tmp_path / "authorities.pem"
    status, output = await run_to_the_end({"SSL_CERT_FILE": str(path), **settings})
    assert status == 2
    (line,) = output.splitlines()
    assert f"SSL_CERT_FILE={path}: no certificates (PEM)" in line


async def test_invalid_catalogue_stops_the_start_with_one_line(tmp_path: Path) -> None:
    """The line names the file and the place in it."""
    path = tmp_path / "catalogue.toml"
    path.write_text('[[topics]]\nname = "shop.orders"\n')
    status, output = await run_to_the_end({"WS_CATALOGUE": str(path)})
    assert status == 2
    (line,) = output.splitlines()
    assert f"WS_CATALOGUE={path}: topics[0].category" in line
