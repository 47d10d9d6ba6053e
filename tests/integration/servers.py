"""`odin-ws serve` as a process of its own, seen by clients and operators."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import GUARD
from tests.integration.running_source import PATIENCE, until, wait_until
from tests.plain_http import plain_client

__all__ = ["Client", "Server", "connected", "run_to_the_end", "serving", "with_constants"]

COMMAND = str(Path(sys.executable).with_name("odin-ws"))

# A start takes a second on a free machine.
START_SECONDS = 60

# Pages that whoever asks within a second shares.
SHARED = {"/metrics", "/health", "/clients"}

# What a server says unasked.
NOTICES = {"feed", "positions", "reconnect"}

# What every test wants, unless it is about that: quick probes, no limit to the rate, a short drain.
USUAL = {
    "KAFKA_PROBE_SECONDS": "0.5",
    "WS_MAX_KAFKA_RATE": "0",
    "WS_DRAIN_DELAY_SECONDS": "0",
    "WS_DRAIN_TIMEOUT_SECONDS": "5",
    "LOG_FORMAT": "json",
}


class Server:
    """A running server. `lines` are the lines of its log so far."""

    def __init__(
        self,
        settings: dict[str, str],
        prepare: Callable[[], None] | None = None,
        words: Sequence[str] = (),
    ) -> None:
        # When each page was got last.
        self._got: dict[str, float] = {}
        self.port, self.ops_port = free_ports(2)
        addresses = {
            "WS_ADDR": f"{LOOPBACK}:{self.port}",
            "WS_OPS_ADDR": f"{LOOPBACK}:{self.ops_port}",
        }
        self.environ = environment(addresses | USUAL | settings)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [COMMAND, "serve", *words],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # None but the test decides when it ends.
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 -- run before any thread of the child
        )
        # Kills it if this process ends without having done so, by SIGKILL for example.
        self._guard = subprocess.Popen(
            [*GUARD, str(self.process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        output = self.process.stdout
        assert output is not None
        with output:
            self.lines.extend(iter(output.readline, ""))

    # ---- what operators see

    @property
    def output(self) -> str:
        """Everything the process has printed so far."""
        return "".join(self.lines)

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about an event."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    async def get(self, path: str) -> httpx.Response:
        """A page of the ops port, built after this was called: not the one shared before."""
        name = path.partition("?")[0]
        if name in SHARED:
            age = time.monotonic() - self._got.get(name, -math.inf)
            await trio.sleep(max(0.0, PAGE_SECONDS - age))
        async with plain_client(PATIENCE) as client:
            response = await client.get(f"http://{LOOPBACK}:{self.ops_port}{path}")
        self._got[name] = time.monotonic()
        return response

    async def post(self, path: str, content: Any, headers: Mapping[str, str]) -> httpx.Response:
        """Post JSON to a page of the ops port."""
        url = f"http://{LOOPBACK}:{self.ops_port}{path}"
        async with plain_client(PATIENCE) as client:
            return await client.post(url, json=content, headers=headers)

    async def health(self) -> dict[str, Any]:
        """The health report, whatever its status."""
        report: dict[str, Any] = (await self.get("/health")).json()
        return report

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, of all its samples with these labels together."""
        text = (await self.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def has_read(self, topic: str, count: int) -> None:
        """Wait until it has read so many records of a topic, whoever was subscribed."""

        async def read() -> bool:
            return await self.metric("ws_kafka_messages_received_total", topic=topic) >= count

        await until(read)

    async def responses(self, path: str, status: int = 200, seconds: float = START_SECONDS) -> None:
        """Wait until a page of the ops port has this status."""
        await until(lambda: self._has_status(path, status), seconds)

    async def _has_status(self, path: str, status: int) -> bool:
        assert self.process.poll() is None, self.output
        try:
            return (await self.get(path)).status_code == status
        except httpx.TransportError:
            return False

    # ---- its end

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; returns the exit status."""
        await wait_until(lambda: self.process.poll() is not None, seconds)
        self._reader.join()
        return self.process.returncode

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        # The guard ends first: once the process has ended, another may get its id.
        self._guard.kill()
        self._guard.communicate()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def started(
    settings: dict[str, str],
    prepare: Callable[[], None] | None = None,
    words: Sequence[str] = (),
) -> Iterator[Server]:
    """Start a server, with these words behind `serve`; it is killed at the end of the block."""
    server = Server(settings, prepare, words)
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def serving(
    bootstrap: str,
    settings: Mapping[str, str] | None = None,
    *,
    ready: bool = True,
    words: Sequence[str] = (),
    **more: str,
) -> AsyncIterator[Server]:
    """Run a server that reads from there; the block begins when it is ready, or alive if not."""
    environ = {"KAFKA_BROKERS": bootstrap, **(settings or {}), **more}
    with started(environ, words=words) as server:
        await server.responses("/health/ready" if ready else "/health/live")
        yield server


def environment(settings: dict[str, str]) -> dict[str, str]:
    """The environment of the tests with these settings, and no others of ours."""
    ours = ("WS_", "KAFKA_", "LOG_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | settings


def with_constants(constants: Mapping[str, float]) -> dict[str, str]:
    """Settings of a server, and its workers, that has these constants: by their full names.

    For intervals that no setting changes, and that a test would only wait for.
    """
    for name in constants:
        module, _, constant = name.rpartition(".")
        assert hasattr(import_module(module), constant), name
    folder = Path(__file__).with_name("constants")
    return {"PYTHONPATH": str(folder), "ODIN_TEST_CONSTANTS": json.dumps(constants)}


async def run_to_the_end(
    settings: dict[str, str],
    prepare: Callable[[], None] | None = None,
    words: Sequence[str] = (),
) -> tuple[int, str]:
    """Start a server that is expected not to serve; returns its exit status and output."""
    with started(settings, prepare, words) as server:
        return await server.ended(), server.output


class Client:
    """A subscriber by the `websockets` library. What it receives is kept."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.messages: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    async def read(self) -> None:
        """Receive until the connection has ended."""
        try:
            async for text in self.websocket:
                item = json.loads(text)
                (self.messages if item["type"] == "message" else self.responses).append(item)
        except ConnectionClosed:
            pass  # told by the code
        self.closed = self.websocket.close_code or 0, self.websocket.close_reason or ""

    async def command(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a command; returns its answer. Notices that come before it are none."""
        count = len(self.responses)
        await self.websocket.send(json.dumps({"type": kind, "data": data}))

        def responses() -> list[dict[str, Any]]:
            return [
                response for response in self.responses[count:] if response["type"] not in NOTICES
            ]

        await wait_until(lambda: responses() or self.closed)
        return responses()[0]

    async def subscribe(self, **data: Any) -> dict[str, Any]:
        """Subscribe; returns the answer, in which nothing is rejected."""
        response = await self.command("subscribe", **data)
        assert response["type"] == "subscription_ack", response
        assert response["rejected"] == []
        return response

    async def received(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until at least so many messages have come."""
        await wait_until(lambda: len(self.messages) >= count, seconds)

    async def ended(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Wait for the end of the connection; returns code and reason."""
        await wait_until(lambda: self.closed is not None, seconds)
        assert self.closed is not None
        return self.closed

    def check_sequence(self) -> None:
        """Fail unless the messages are numbered from 1 without a hole."""
        assert [message["seq"] for message in self.messages] == list(
            range(1, len(self.messages) + 1)
        )


@asynccontextmanager
async def connected(server: Server, path: str = "/ws") -> AsyncIterator[Client]:
    """Connect a subscriber for the length of the block."""
    uri = f"ws://{LOOPBACK}:{server.port}{path}"
    async with connect(uri, proxy=None, max_size=None) as websocket, trio.open_nursery() as nursery:
        client = Client(websocket)
        nursery.start_soon(client.read)
        yield client
        nursery.cancel_scope.cancel()
