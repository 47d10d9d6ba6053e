"""Runs the JavaScript client in a Node process and records the calls of its callbacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final, NoReturn

import attrs
import pytest
import trio

__all__ = [
    "CLIENT",
    "DRIVER",
    "OPTIONS",
    "PACKAGE",
    "PATIENCE",
    "Callbacks",
    "Follower",
    "FollowerEvent",
    "follow",
    "missing",
    "node_command",
    "read_events",
]

PACKAGE: Final = Path(__file__).parents[2] / "clients" / "js"
CLIENT: Final = PACKAGE / "src" / "index.js"

DRIVER: Final = Path(__file__).with_name("follower.mjs")

# Seconds for what takes milliseconds on a free machine.
PATIENCE: Final = 30

# Soon back, never silent for too long on a busy machine, and over WebSockets only, unless a test is
# about that.
OPTIONS: Final = {"backoff": [1, 20], "silence": PATIENCE * 1000, "fallback": False}

# The first that has a WebSocket, behind a flag, and the first that has it without.
_WITH_FLAG: Final = (20, 10)
_WITHOUT: Final = (22, 0)


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if ODIN_REQUIRE_NODE=1 says that all it needs has to be there."""
    if os.environ.get("ODIN_REQUIRE_NODE") == "1":
        pytest.fail(f"ODIN_REQUIRE_NODE=1, but {reason}")
    pytest.skip(f"{reason}: the JavaScript client is not tested")


def node_command() -> list[str]:
    """How to run a module in Node; skips the test without a Node that has a WebSocket."""
    node = shutil.which("node")
    if node is None:
        missing("Node is not installed")
    reported = subprocess.run(
        [node, "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.match(r"v(\d+)\.(\d+)", reported)
    assert found, reported
    version = int(found[1]), int(found[2])
    if version < _WITH_FLAG:
        missing(f"Node {reported.strip()} has no WebSocket")
    flags = ["--experimental-websocket"] if version < _WITHOUT else []
    return [node, "--no-warnings", *flags]


@attrs.frozen
class FollowerEvent:
    """One call of `onmessage` or `onnotice`, with the feed's fields at that moment."""

    kind: str
    item: dict[str, Any]
    positions: dict[str, dict[str, int]]
    duplicates: int
    at: float
    """Seconds on the clock of Node, the browser or the Python application."""


class Callbacks:
    """The calls of a feed's callbacks, in order."""

    def __init__(self, event: AsyncIterator[FollowerEvent]) -> None:
        self._events = event

    async def next_event(self) -> FollowerEvent:
        """The next event."""
        with trio.fail_after(PATIENCE):
            return await anext(self._events)

    async def notice(self, kind: str) -> FollowerEvent:
        """The next thing it says, which has to be a notice of this type."""
        event = await self.next_event()
        assert (event.kind, event.item["type"]) == ("notice", kind), event
        return event

    async def message(self) -> FollowerEvent:
        """The next thing it says, which has to be a message."""
        event = await self.next_event()
        assert event.kind == "message", event
        return event

    async def messages(self, count: int) -> list[FollowerEvent]:
        """The next so many messages, whatever notices come between them."""
        found: list[FollowerEvent] = []
        while len(found) < count:
            event = await self.next_event()
            if event.kind == "message":
                found.append(event)
        return found


class Follower(Callbacks):
    """A client that runs in Node."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines = read_events(process)
        super().__init__(self._lines)

    async def aclose(self) -> None:
        """Read no more."""
        await self._lines.aclose()

    async def close(self) -> None:
        """Have it close its feed."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"close\n")

    async def request(self, request: Mapping[str, Any]) -> None:
        """Have it subscribe or unsubscribe; the result is an `answer` event."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(request).encode() + b"\n")

    async def ended(self) -> list[FollowerEvent]:
        """Wait until the feed has nothing left to do; returns what it has said until then."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.fail_after(PATIENCE):
            rest = [event async for event in self._events]
            assert await self._process.wait() == 0
        return rest


async def read_events(process: trio.Process) -> AsyncGenerator[FollowerEvent]:
    """What a program prints, a JSON object a line."""
    output, rest = process.stdout, b""
    assert output is not None
    async for some in output:
        *lines, rest = (rest + some).split(b"\n")
        for line in lines:
            yield FollowerEvent(**json.loads(line))


@asynccontextmanager
async def follow(  # noqa: PLR0913 -- by name
    node: Sequence[str],
    url: str,
    subscription: Mapping[str, Any],
    *,
    driver: Path = DRIVER,
    module: str = CLIENT.as_uri(),
    random: float | None = None,
    tokens: Sequence[str | None] | None = None,
    **options: Any,
) -> AsyncIterator[Follower]:
    """Run a client for the length of the block.

    `driver`: the program; `module`: what it imports the client from.
    `random`: what Math.random() always says there. `tokens`: its `token` is a function that gives
    these one after the other, and then the last forever; None is a failure.
    """
    given = {
        "url": url,
        "subscription": subscription,
        "options": OPTIONS | options,
        "random": random,
        "tokens": tokens,
    }
    command = [*node, str(driver), module, json.dumps(given)]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
    follower = Follower(process)
    try:
        yield follower
    finally:
        await follower.aclose()
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            await trio.aclose_forcefully(pipe)
