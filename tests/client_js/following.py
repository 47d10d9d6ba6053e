"""The browser's client in a Node of its own, and what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import attrs
import pytest
import trio

__all__ = ["CLIENT", "PACKAGE", "PATIENCE", "Follower", "Said", "follow", "node_command"]

PACKAGE: Final = Path(__file__).parents[2] / "clients" / "js"
CLIENT: Final = PACKAGE / "src" / "index.js"

_DRIVER: Final = Path(__file__).with_name("follower.mjs")

# Seconds for what takes milliseconds on a free machine.
PATIENCE: Final = 30

# Soon back, and never silent for too long on a busy machine, unless a test is about that.
_OPTIONS: Final = {"backoff": [1, 20], "silence": PATIENCE * 1000}

# The first that has a WebSocket, behind a flag, and the first that has it without.
_WITH_FLAG: Final = (20, 10)
_WITHOUT: Final = (22, 0)


def node_command() -> list[str]:
    """How to run a module in Node; skips the test where there is none, or it is too old."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: the browser's client is not tested")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    assert found, told
    version = int(found[1]), int(found[2])
    if version < _WITH_FLAG:
        pytest.skip(f"Node {told.strip()} has no WebSocket: the browser's client is not tested")
    flags = ["--experimental-websocket"] if version < _WITHOUT else []
    return [node, "--no-warnings", *flags]


@attrs.frozen
class Said:
    """One call of `onmessage` or `onnotice`, with the feed's fields at that moment."""

    kind: str
    item: dict[str, Any]
    positions: dict[str, dict[str, int]]
    duplicates: int


class Follower:
    """A running client. What it says is taken in order."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = self._read()

    async def _read(self) -> AsyncIterator[Said]:
        output, rest = self._process.stdout, b""
        assert output is not None
        async for some in output:
            *lines, rest = (rest + some).split(b"\n")
            for line in lines:
                yield Said(**json.loads(line))

    async def said(self) -> Said:
        """The next thing it says."""
        with trio.fail_after(PATIENCE):
            return await anext(self._said)

    async def notice(self, kind: str) -> Said:
        """The next thing it says, which has to be a notice of this type."""
        said = await self.said()
        assert (said.kind, said.item["type"]) == ("notice", kind), said
        return said

    async def message(self) -> Said:
        """The next thing it says, which has to be a message."""
        said = await self.said()
        assert said.kind == "message", said
        return said

    async def messages(self, count: int) -> list[Said]:
        """The next so many messages, whatever notices come between them."""
        found: list[Said] = []
        while len(found) < count:
            said = await self.said()
            if said.kind == "message":
                found.append(said)
        return found

    async def close(self) -> None:
        """Have it close its feed."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"close\n")

    async def ended(self) -> list[Said]:
        """Wait until the feed has nothing left to do; returns what it has said until then."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.fail_after(PATIENCE):
            rest = [said async for said in self._said]
            assert await self._process.wait() == 0
        return rest


@asynccontextmanager
async def follow(
    node: Sequence[str],
    url: str,
    subscription: Mapping[str, Any],
    *,
    random: float | None = None,
    tokens: Sequence[str | None] | None = None,
    **options: Any,
) -> AsyncIterator[Follower]:
    """Run a client for the length of the block.

    `random`: what Math.random() always says there. `tokens`: its `token` is a function that gives
    these one after the other, and then the last for ever; None is a failure.
    """
    given = {
        "url": url,
        "subscription": subscription,
        "options": _OPTIONS | options,
        "random": random,
        "tokens": tokens,
    }
    command = [*node, str(_DRIVER), str(CLIENT), json.dumps(given)]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
    try:
        yield Follower(process)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            await trio.aclose_forcefully(pipe)
