"""clients/python as a package: the wheel, installed without the server."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.client_python.applications import EXTRAS, build_wheel, install

pytestmark = pytest.mark.processes

# What a strict project of a user may write.
USER = """
import asyncio
from typing import assert_type

import odin_ws_client.{shell}
from odin_ws_client import Disconnected, Item, Message, Resumed, Subscription


async def token() -> str:
    return "secret"


async def main(url: str) -> None:
    wanted = Subscription(channels=["*.trade"], topics=("odin.trades",), delivery="latest")
    async with odin_ws_client.{shell}.open_client(
        url, wanted, token=token, positions={{"odin.trades": {{0: 5}}}}, reconnect=False
    ) as client:
        assert_type(client, odin_ws_client.{shell}.Client)
        assert_type(client.positions, dict[str, dict[int, int]])
        async for item in client:
            assert_type(item, Item)
            match item:
                case Message():
                    assert_type(item.offset, int)
                case Resumed(recovered=False):
                    print(item.lost["odin.trades"][0][1])
                case Disconnected():
                    assert_type(item.retry_in, float | None)
        async for message in client.messages():
            assert_type(message, Message)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def pythons(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An interpreter for each shell, with what it needs and nothing else."""
    folder = tmp_path_factory.mktemp("environments")
    return {shell: install(wheel, folder / shell, extra) for shell, extra in EXTRAS.items()}


def python_says(python: Path, program: str) -> str:
    """What a program prints."""
    command = [str(python), "-I", "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_wheel_has_only_the_package(wheel: Path) -> None:
    """With the marker file for its types."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "odin_ws_client/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {
        "odin_ws_client",
        "odin_ws_client-0.1.0.dist-info",
    }


def test_asyncio_shell_needs_no_trio(pythons: dict[str, Path]) -> None:
    """`pip install odin-ws-client` brings three packages, and the server is not among them."""
    listed = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"
    found = python_says(pythons["asyncio"], listed)
    assert found == "['attrs', 'odin-ws-client', 'orjson', 'websockets']"
    loaded = "import odin_ws_client.asyncio, sys; print('trio' in sys.modules)"
    assert python_says(pythons["asyncio"], loaded) == "False"


def test_trio_shell_loads_no_asyncio(pythons: dict[str, Path]) -> None:
    """Nor does the core load either event loop."""
    loaded = "import {}, sys; print(sorted({{'asyncio', 'trio', 'odin_ws'}} & sys.modules.keys()))"
    core, shell = "odin_ws_client.core.reconnector", "odin_ws_client.trio"
    assert python_says(pythons["trio"], loaded.format(core)) == "[]"
    assert python_says(pythons["trio"], loaded.format(shell)) == "['trio']"


@pytest.mark.parametrize("shell", EXTRAS)
def test_types_pass_strict_checks(pythons: dict[str, Path], shell: str, tmp_path: Path) -> None:
    """The types of the installed package, as mypy reads them."""
    user = tmp_path / "user.py"
    user.write_text(USER.format(shell=shell))
    words = ["--strict", "--config-file=", f"--cache-dir={tmp_path}", "--python-executable"]
    command = [sys.executable, "-m", "mypy", *words, str(pythons[shell]), str(user)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
