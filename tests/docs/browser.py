"""A page in headless Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Page", "open_page"]

# Time-out for a busy machine; a page loads within a second.
PATIENCE_SECONDS = 60

_OPTIONS = ("--headless", "--disable-gpu", "--no-first-run", "--disable-sync")
_QUIET = ("--disable-background-networking", "--disable-component-update")


class Page:
    """One page."""

    def __init__(self, devtools: ClientConnection, address: str) -> None:
        self._devtools = devtools
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self._call("Target.createTarget", url=address)["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]

    def wait_for(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true; return its value."""
        poll = (
            "new Promise((resolve) => { const look = () => { let found; try { found = "
            f"({condition}); }} catch {{}} found ? resolve(found) : setTimeout(look, 20); }}; "
            "look(); })"
        )
        while True:
            message = self._send_command(
                "Runtime.evaluate", expression=poll, awaitPromise=True, returnByValue=True
            )
            # The empty start page discards its promise when it is replaced.
            if "error" not in message:
                return message["result"]["result"]["value"]
            assert "context" in message["error"]["message"], message

    def value(self, expression: str) -> Any:
        """Return the present value of a JavaScript expression."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        message = self._send_command(method, **parameters)
        assert "error" not in message, message
        return dict(message["result"])

    def _send_command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        call = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        self._devtools.send(json.dumps(call))
        while True:
            message: dict[str, Any] = json.loads(self._devtools.recv(PATIENCE_SECONDS))
            if message.get("id") == number:
                return message


@contextmanager
def open_page(address: str, profile: Path) -> Iterator[Page]:
    """Open a page; `profile`: an empty folder for the browser. Skips the test without Chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("ODIN_REQUIRE_NODE"):
            pytest.fail("Chromium is missing")
        pytest.skip("Chromium is missing")
    options = [*_OPTIONS, *_QUIET, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    with subprocess.Popen(
        [browser, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = (re.search(r"DevTools listening on (ws://\S+)", one) for one in process.stderr)
            url = next(match[1] for match in found if match)
            with connect(url, max_size=None, proxy=None) as devtools:
                yield Page(devtools, address)
        finally:
            process.terminate()
