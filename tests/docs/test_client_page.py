"""The examples of docs/client.md, run as a reader would run them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

import odin_ws_client
import odin_ws_client.asyncio
import odin_ws_client.trio
from odin_ws.settings import Secret, Settings
from odin_ws.testing.local_server import open_local_server
from odin_ws.testing.memory_log import MemoryLog
from tests.cli.commands import started
from tests.docs.pages import blocks, page
from tests.jwt_issuer import SECRET, issuer

PAGE = "docs/client.md"
VALUE = b'{"type":"TRADE_EXECUTED","timestamp":1,"data":{"price":1}}'


def written(name: str, directory: Path) -> Path:
    """Write the example of this name to a file."""
    (found,) = (block.text for block in blocks(page(PAGE), "python") if f"# {name}\n" in block.text)
    path = directory / name
    path.write_text(found, "utf-8")
    return path


@asynccontextmanager
async def server(**options: Any) -> AsyncIterator[tuple[MemoryLog, str]]:
    """Run a server on a real port; gives its log and its URL."""
    async with open_local_server(Settings(**options)) as running:
        yield running.log, running.url


@pytest.mark.parametrize("example", ["follow.py", "follow_trio.py"])
async def test_first_examples_print_trades(tmp_path: Path, example: str) -> None:
    """They print the trades."""
    words = [sys.executable, str(written(example, tmp_path))]
    async with (
        server() as (log, url),
        started([*words, url]) as following,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_publish, log)
        await following.says("BTC.trade {'type': 'TRADE_EXECUTED'", on="out")
        nursery.cancel_scope.cancel()


async def test_example_of_the_first_five_minutes(tmp_path: Path) -> None:
    """The program of docs/start.md prints the trades of its token."""
    (example,) = blocks(page("docs/start.md"), "python")
    path = tmp_path / "first.py"
    async with server() as (log, url), trio.open_nursery() as nursery:
        path.write_text(example.text.replace("ws://localhost:3002/ws", url), "utf-8")
        async with started([sys.executable, "-u", str(path)]) as program:
            nursery.start_soon(_publish, log)
            await program.says("BTC.trade", on="out")
        nursery.cancel_scope.cancel()


async def test_example_with_saved_positions_prints_every_offset_once(tmp_path: Path) -> None:
    """Two processes, one after the other, print every offset once."""
    words = [sys.executable, str(written("keep.py", tmp_path))]
    printed = ""
    async with server() as (log, url), trio.open_nursery() as nursery:
        nursery.start_soon(_publish, log)
        for _ in range(2):
            async with started([*words, url, str(tmp_path / "kept"), "3"]) as following:
                done = await following.ended()
                assert done.returncode == 0, done.stderr
                printed += done.stdout
        nursery.cancel_scope.cancel()
    offsets = [int(line.split()[1]) for line in printed.splitlines()]
    assert offsets == list(range(offsets[0], offsets[0] + 6))


async def test_example_that_subscribes_later_prints_the_answer(tmp_path: Path) -> None:
    """It says what is followed then and what is not, and prints trades of the late channel."""
    words = [sys.executable, str(written("watch.py", tmp_path))]
    async with (
        server() as (log, url),
        started([*words, url]) as following,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_publish, log)
        await following.says("following ('ETH.trade',) but not (RejectedName(", on="out")
        log.append("odin.trades", b"ETH", VALUE)
        await following.says("ETH.trade {'type': 'TRADE_EXECUTED'", on="out")
        nursery.cancel_scope.cancel()


async def test_example_with_a_token_is_accepted(tmp_path: Path) -> None:
    """It reads the token from the file, and is accepted."""
    kept = tmp_path / "token"
    kept.write_text(issuer("HS256").token() + "\n")
    words = [sys.executable, str(written("private.py", tmp_path))]
    async with (
        server(ws_auth="jwt", ws_jwt_secret=Secret(SECRET)) as (log, url),
        started([*words, url, str(kept)]) as following,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_publish, log)
        await following.says("BTC.trade", on="out")
        nursery.cancel_scope.cancel()


async def _publish(log: MemoryLog) -> None:
    """Publish until cancelled: the examples do not say when they have subscribed."""
    while True:
        log.append("odin.trades", b"BTC", VALUE)
        await trio.sleep(0.05)


def test_every_named_class_is_exported() -> None:
    """odin_ws_client exports each class that the text names."""
    prose = re.sub(r"^```.*?^```$", "", page(PAGE), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)[`(]", prose))
    assert "HandshakeRejected" in named
    assert named <= {*odin_ws_client.__all__, *odin_ws_client.trio.__all__}


@pytest.mark.parametrize("shell", [odin_ws_client.asyncio, odin_ws_client.trio])
def test_table_has_every_option(shell: ModuleType) -> None:
    """The table has each option of open_client, with its default if that is a number."""
    rows = re.findall(r"^\| (`.*) \| (.*) \| .* \|$", page(PAGE), re.MULTILINE)
    shown: dict[str, str] = {}
    for names, defaults in rows:
        options = re.findall(r"`(\w+)`", names)
        shown |= dict(zip(options, defaults.split(", ") * len(options), strict=False))
    parameters = list(inspect.signature(shell.open_client).parameters.values())[2:]
    assert shown.keys() == {parameter.name for parameter in parameters}
    for one in parameters:
        if isinstance(one.default, int | float) and not isinstance(one.default, bool):
            assert float(shown[one.name]) == one.default
