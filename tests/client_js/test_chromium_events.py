"""Server-Sent Events in Chromium: its own EventSource, and the client after a fallback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import trio

from odin_ws.address import Address
from odin_ws.settings import Secret
from tests.client_js.follower import OPTIONS
from tests.client_js.instances import ALL, TOPICS, Instance, memory_log, restart_twice
from tests.client_js.test_chromium import PAGE, browse, chromium
from tests.client_js.upgrade_blocking_proxy import blocking_proxy
from tests.jwt_issuer import SECRET, issuer

__all__ = ["chromium"]

# An EventSource of the browser; the page is of another origin than the server.
EVENTS: Final = """<!doctype html>
<script type="module">
const source = new EventSource("%(url)s");
let posted = Promise.resolve();
const post = (kind, item) => {
  const at = performance.now() / 1000;
  const body = JSON.stringify({ kind, item, positions: {}, duplicates: 0, at });
  posted = posted.then(() => fetch("/said", { method: "POST", body }));
};
source.onmessage = ({ data }) => post("message", JSON.parse(data));
for (const name of ["subscription_ack", "resume_ack", "reconnect", "close", "error"])
  // An `error` without data is the browser's own.
  source.addEventListener(name, ({ data }) => data && post("notice", JSON.parse(data)));
</script>
"""


async def test_event_source_receives_every_record_through_restarts(
    nursery: trio.Nursery, chromium: str, tmp_path: Path
) -> None:
    """With only its own Last-Event-ID and `retry`, every record comes once and in order."""
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    page = EVENTS % {"url": f"http://{address}/sse?topics={','.join(TOPICS)}"}
    async with browse(chromium, page, tmp_path) as callbacks:
        await callbacks.notice("subscription_ack")
        await restart_twice(nursery, address, instance, callbacks)


async def use_up_rate(address: Address) -> None:
    """Connect again and again, so that the browser is rejected however long it takes to start."""
    while True:
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            await stream.receive_some()


async def test_event_source_reconnects_after_rejection(
    nursery: trio.Nursery, chromium: str, tmp_path: Path
) -> None:
    """Over the connect rate it gets a reconnect time instead of 429, which would stop it."""
    # A burst of one, and another connection five seconds later.
    instance = Instance(memory_log(), ws_connect_rate_per_ip=0.2)
    address = await nursery.start(instance.run)
    page = EVENTS % {"url": f"http://{address}/sse?topics={','.join(TOPICS)}"}
    async with browse(chromium, page, tmp_path) as callbacks:
        async with trio.open_nursery() as others:
            others.start_soon(use_up_rate, address)
            assert (await callbacks.notice("error")).item["code"] == "NOT_AVAILABLE"
            others.cancel_scope.cancel()
        # It may come back too early once more.
        while (event := await callbacks.next_event()).item["type"] != "subscription_ack":
            assert event.item["type"] == "error"
    await instance.cancel()


async def test_browser_client_falls_back_to_events_with_token(
    nursery: trio.Nursery, chromium: str, tmp_path: Path
) -> None:
    """From another origin and with an Authorization header, which needs a preflight request."""
    instance = Instance(memory_log(), ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
    address = await nursery.start(instance.run)
    token = issuer("HS256").token(3600, channels=["*.trade", "*.balances"])
    options = {**OPTIONS, "fallback": True, "token": token}
    async with blocking_proxy(address) as proxy:
        page = PAGE % {
            "module": "/src/index.js",
            "url": f"ws://{proxy.address}/ws",
            "subscription": json.dumps(ALL),
            "options": json.dumps(options),
        }
        async with browse(chromium, page, tmp_path) as callbacks:
            while (event := await callbacks.next_event()).item["type"] != "subscription_ack":
                assert event.item["type"] == "disconnected"
            assert proxy.upgrades == 3
            assert proxy.streams == 1
    await instance.cancel()
