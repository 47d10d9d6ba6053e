"""Headless Chromium, driven by playwright-core in a Node process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final, NoReturn

import pytest
import trio

__all__ = ["Browser", "BrowserFailed", "missing", "open_browser"]

DRIVER: Final = Path(__file__).with_name("driver.mjs")
MODULES: Final = DRIVER.parent / "node" / "node_modules"

# Limit of one action on a busy machine, seconds.
PATIENCE: Final = 60

READ_BYTES: Final = 65536


class BrowserFailed(Exception):
    """An action of the browser failed; the message has the reason."""


def missing(reason: str) -> NoReturn:
    """Skip the test; fail it instead if ODIN_REQUIRE_NODE=1."""
    if os.environ.get("ODIN_REQUIRE_NODE") == "1":
        pytest.fail(f"ODIN_REQUIRE_NODE=1, but {reason}")
    pytest.skip(f"{reason}: the console is not tested in a browser")


class Browser:
    """A page in a browser. Every method raises BrowserFailed."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._received = b""

    async def do(self, action: str, **given: Any) -> Any:
        """Run an action of driver.mjs; return its result."""
        assert self._process.stdin is not None
        line = json.dumps({"action": action, **given}) + "\n"
        with trio.fail_after(PATIENCE):
            await self._process.stdin.send_all(line.encode())
            response = json.loads(await self._line())
        if "error" in response:
            raise BrowserFailed(f"{action} {given}: {response['error']}")
        return response["result"]

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            data = await self._process.stdout.receive_some(READ_BYTES)
            if not data:
                raise BrowserFailed("the browser's driver has ended")
            self._received += bytes(data)
        line, _, self._received = self._received.partition(b"\n")
        return line

    async def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(await self.do("text", selector=selector))

    async def click(self, selector: str) -> None:
        """Click on an element."""
        await self.do("click", selector=selector)

    async def wait(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        await self.do("wait", code=f"() => {condition}")

    async def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        await self.wait(f"document.querySelector({selector!r})?.innerText.includes({text!r})")

    async def evaluate(self, code: str) -> Any:
        """Return the value of an expression of the page."""
        return await self.do("evaluate", code=f"() => {code}")


def browser_command() -> tuple[str, str]:
    """Return the command line of Node and Chromium; skips the test if one is missing."""
    node = shutil.which("node") or missing("Node is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not (MODULES / "playwright-core").is_dir():
        missing("playwright-core is not installed (make test installs it)")
    return node, chromium or missing("Chromium is not installed")


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Run a browser during the block; each opened page has cookies and storage of its own."""
    node, chromium = browser_command()
    command = [node, str(DRIVER), chromium]
    process = await trio.lowlevel.open_process(
        command, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    try:
        yield Browser(process)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
