"""A server that cannot start says why, in a line, and ends."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from odin_ws.testing.ports import LOOPBACK
from tests.integration.serving import run_to_the_end


async def test_26_a_misspelt_setting_is_named() -> None:
    """A near miss stops the start with status 2 and a line that says which and what is meant."""
    status, output = await run_to_the_end({"WS_MAX_CONECTIONS": "5", "KAFKA_GROUP_ID": "mine"})
    assert status == 2
    assert "WS_MAX_CONECTIONS: no such setting; WS_MAX_CONNECTIONS is meant" in output
    assert "KAFKA_GROUP_ID: no such setting; KAFKA_CONSUMER_GROUP is meant" in output
    assert len(output.splitlines()) == 2


async def test_too_few_descriptors_are_told_of_at_the_start() -> None:
    """A limit below the connections asked for stops the start, with both numbers in one line."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))

    status, output = await run_to_the_end({"WS_MAX_CONNECTIONS": "5000"}, prepare)
    assert status == 2
    (line,) = output.splitlines()
    assert "WS_MAX_CONNECTIONS=5000 and WS_MAX_PENDING=2048 need " in line
    assert "the limit is 1000" in line


@pytest.mark.parametrize("setting", ["WS_ADDR", "WS_OPS_ADDR"])
async def test_a_port_in_use_is_told_in_a_line(setting: str) -> None:
    """A port that somebody has stops the start with a line that names it, and no traceback."""
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
async def test_authorities_that_are_not_there_are_told_in_a_line(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """What the environment says of whom to trust is needed where a URL is asked over TLS."""
    path = tmp_path / "authorities.pem"
    status, output = await run_to_the_end({"SSL_CERT_FILE": str(path), **settings})
    assert status == 2
    (line,) = output.splitlines()
    assert f"SSL_CERT_FILE={path}: no certificates (PEM)" in line


async def test_a_catalogue_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    """The line names the file and the place in it."""
    path = tmp_path / "catalogue.toml"
    path.write_text('[[topics]]\nname = "shop.orders"\n')
    status, output = await run_to_the_end({"WS_CATALOGUE": str(path)})
    assert status == 2
    (line,) = output.splitlines()
    assert f"WS_CATALOGUE={path}: topics[0].category" in line
