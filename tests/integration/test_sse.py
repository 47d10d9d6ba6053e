"""Server-Sent Events from real servers that read a real Kafka: httpx, curl, a rolling restart."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.http_api.event_source import Event, EventParser
from tests.http_api.torn import messages_of
from tests.integration.events import event
from tests.integration.running_source import Publisher, wait_until
from tests.integration.servers import Server, serving
from tests.plain_http import plain_client


def url(server: Server, path: str) -> str:
    """A URL on the subscribers' port."""
    return f"http://{LOOPBACK}:{server.port}{path}"


class BrowserPage:
    """Follows like an EventSource: waits for `retry`, and reconnects with its last id."""

    def __init__(self, query: str) -> None:
        self.servers: list[Server] = []
        self.last_event_id = ""
        self.connections = 0
        self.events: list[Event] = []
        self._query = query

    async def run(self) -> None:
        """Follow the first reachable server, until cancelled."""
        retry_ms = 100
        async with plain_client(30) as client:
            while True:
                parser = EventParser(self.last_event_id)
                headers = {"Accept": "text/event-stream", "Last-Event-ID": self.last_event_id}
                for server in self.servers:
                    try:
                        async for one in self._follow(client, server, headers, parser):
                            self.events.append(one)
                    except httpx.TransportError:
                        continue
                    break
                self.last_event_id = parser.last_event_id
                retry_ms = parser.retry_ms or retry_ms
                await trio.sleep(retry_ms / 1000)

    async def _follow(
        self,
        client: httpx.AsyncClient,
        server: Server,
        headers: dict[str, str],
        parser: EventParser,
    ) -> AsyncIterator[Event]:
        sent = {name: value for name, value in headers.items() if value}
        async with client.stream("GET", url(server, self._query), headers=sent) as response:
            assert response.status_code == 200
            self.connections += 1
            async for data in response.aiter_bytes():
                for one in parser.feed(data):
                    yield one

    async def until(self, count: int) -> list[int]:
        """Wait for `count` messages; return their numbers."""
        await wait_until(lambda: len(self.numbers) >= count)
        return self.numbers

    @property
    def numbers(self) -> list[int]:
        """The numbers of the records, in order of arrival."""
        return [message["data"]["data"]["n"] for message in messages_of(self.events)]


async def test_rolling_restart_loses_no_event(topics: str, token: str) -> None:
    """Each instance drains in turn; every record arrives once, in order."""
    publisher, count = Publisher(topics), 0

    async def publish(records: int) -> None:
        nonlocal count
        sent = [event(token, "trade", count + n) for n in range(records)]
        count += records
        await publisher.publish(sent)

    page = BrowserPage(f"/sse?channels={token}.trade")
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(serving(topics)) for _ in range(2)]
        page.servers = list(instances)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(page.run)
        await wait_until(lambda: bool(page.events))
        await publish(20)
        await page.until(20)
        for old in instances:
            old.signal(signal.SIGTERM)
            await publish(20)
            assert await old.ended(15) == 0
            await publish(20)
            page.servers.remove(old)
            page.servers.append(await stack.enter_async_context(serving(topics)))
            assert await page.until(count) == list(range(count))
        assert page.connections >= 2
        acks = [event.json for event in page.events if event.name == "resume_ack"]
        assert acks
        assert all(ack["recovered"] for ack in acks)
        nursery.cancel_scope.cancel()


async def test_curl_reads_events_snapshots_and_probes(topics: str, token: str) -> None:
    """With the commands of README.md and docs/sse.md."""
    async with serving(topics) as server:
        command = ["curl", "-sN", "--max-time", "20", url(server, f"/sse?channels={token}.trade")]
        curl = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert curl.stdout is not None
        parser, events, published = EventParser(), list[Event](), False
        with trio.fail_after(20):
            async for data in curl.stdout:
                events += parser.feed(bytes(data))
                if not published and [event.name for event in events] == ["subscription_ack"]:
                    published = True
                    await Publisher(topics).publish([event(token, "trade", 7)])
                if messages_of(events):
                    break
            curl.terminate()
            await curl.wait()
        (message,) = messages_of(events)
        assert message["data"]["data"]["n"] == 7
        async with plain_client(10) as client:
            found = (await client.get(url(server, f"/snapshot?channels={token}.trade"))).json()
            assert [message["pos"] for message in found["messages"]] == [message["pos"]]
            for path in "/healthz", "/":
                response = await client.head(url(server, path))
                assert (response.status_code, response.content) == (200, b"")
        assert "Traceback" not in server.output
