"""The JavaScript client in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

import h11
import pytest
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.client_js.follower import OPTIONS, PACKAGE, PATIENCE, Callbacks, FollowerEvent, missing
from tests.client_js.instances import ALL, Instance, memory_log, restart_twice

# It follows a server, and posts every call of its callbacks, one after the other.
PAGE: Final = """<!doctype html>
<script type="module">
import { OdinFeed } from "%(module)s";
const feed = new OdinFeed("%(url)s", %(subscription)s, %(options)s);
let posted = Promise.resolve();
const post = (kind) => (item) => {
  const { positions, duplicates } = feed;
  const body = JSON.stringify({ kind, item, positions, duplicates, at: performance.now() / 1000 });
  posted = posted.then(() => fetch("/said", { method: "POST", body }));
};
feed.onmessage = post("message");
feed.onnotice = post("notice");
</script>
"""

# Else it would ask hosts of its own, and reach none of them.
QUIET: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser; skips the test where there is none."""
    return (
        shutil.which("chromium") or shutil.which("chromium-browser") or missing("no Chromium here")
    )


async def next_request(
    connection: h11.Connection, stream: trio.SocketStream
) -> tuple[str, bytes] | None:
    """The next request's path and body; None if the browser has closed the connection."""
    path, body = "", b""
    while (event := connection.next_event()) is not h11.PAUSED:
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            case h11.Request():
                path = event.target.decode()
            case h11.Data():
                body += event.data
            case h11.ConnectionClosed():
                return None
            case h11.EndOfMessage():
                break
    return path, body


async def serve_page(
    page: str, events: trio.MemorySendChannel[FollowerEvent], stream: trio.SocketStream
) -> None:
    """Answer a browser: the page, the package's files, and what the page posts."""
    connection = h11.Connection(h11.SERVER)
    async with stream:
        while (request := await next_request(connection, stream)) is not None:
            path, body = request
            kind, content = "text/html", b""
            if path == "/said":
                await events.send(FollowerEvent(**json.loads(body)))
            elif path == "/":
                content = page.encode()
            elif path.endswith(".js"):
                kind, content = "text/javascript", (PACKAGE / path.lstrip("/")).read_bytes()
            headers = [("content-type", kind), ("content-length", str(len(content)))]
            response = h11.Response(status_code=200, headers=headers)
            for part in (response, h11.Data(data=content), h11.EndOfMessage()):
                await stream.send_all(connection.send(part) or b"")
            connection.start_next_cycle()


@asynccontextmanager
async def browse(chromium: str, page: str, profile: Path) -> AsyncIterator[Callbacks]:
    """Open the page for the length of the block."""
    send, receive = trio.open_memory_channel[FollowerEvent](1000)
    async with trio.open_nursery() as nursery:
        handler = partial(serve_page, page, send)
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=LOOPBACK))
        url = f"http://{LOOPBACK}:{listener.socket.getsockname()[1]}/"
        command = [chromium, *QUIET, f"--user-data-dir={profile}", url]
        process = await trio.lowlevel.open_process(
            command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
        )
        try:
            yield Callbacks(aiter(receive))
        finally:
            process.terminate()
            with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
                await process.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("module", ["/src/index.js", "/dist/odin-ws.js"])
async def test_page_receives_every_record_through_restarts(
    nursery: trio.Nursery, chromium: str, module: str, tmp_path: Path
) -> None:
    """A page gets every record once, in order, from the modules and from the bundle."""
    await trio.run_process(["node", "tools/bundle.js"], cwd=PACKAGE)
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    page = PAGE % {
        "module": module,
        "url": f"ws://{address}/ws",
        "subscription": json.dumps(ALL),
        "options": json.dumps(OPTIONS),
    }
    async with browse(chromium, page, tmp_path) as callbacks:
        await callbacks.notice("subscription_ack")
        await restart_twice(nursery, address, instance, callbacks)
