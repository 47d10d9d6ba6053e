"""Instances of `odin-ws serve` that are started, drained, killed and frozen."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.integration.running_source import until
from tests.plain_http import plain_client

__all__ = ["Instance", "InstanceFailed", "program", "run_instances"]

NAMES: Final = ("one", "two", "three")

# Timeout of a start, which takes 1 s on a free machine.
READY_SECONDS: Final = 60
ANSWER_SECONDS: Final = 5

# Timeout of a drain. WS_DRAIN_DELAY_SECONDS + WS_DRAIN_TIMEOUT_SECONDS are 9 s.
DRAINED_SECONDS: Final = 20

# The defaults, except for times of minutes. An instance detects a half-open connection after 20 s
# instead of 75 s: clients on two shared cores may be nearly 20 s behind after an outage, and
# respond to a ping only after the earlier messages. An instance detects a lost broker after one
# probe of 2 s instead of 5 s.
SETTINGS: Final[dict[str, str]] = {
    "WS_DRAIN_DELAY_SECONDS": "1",
    "WS_DRAIN_TIMEOUT_SECONDS": "8",
    "WS_PING_INTERVAL_SECONDS": "5",
    "WS_PONG_TIMEOUT_SECONDS": "20",
    "KAFKA_PROBE_SECONDS": "2",
    # No rate limit on the catch-up after an outage.
    "WS_MAX_KAFKA_RATE": "0",
    # HAProxy's address.
    "WS_TRUSTED_PROXIES": LOOPBACK,
}


def program(command: list[str], environ: Mapping[str, str]) -> list[str]:
    """Return a command that runs with only these environment variables."""
    env = shutil.which("env") or "/usr/bin/env"
    path = os.environ.get("PATH", os.defpath)
    return [env, "-i", f"PATH={path}", *(f"{k}={v}" for k, v in environ.items()), *command]


class InstanceFailed(RuntimeError):
    """The instance ended unexpectedly; the message has the details."""


class Instance:
    """One instance, which keeps its ports over restarts."""

    def __init__(self, name: str, settings: Mapping[str, str], directory: Path) -> None:
        self.name: Final = name
        self.port, self.ops_port = free_ports(2)
        environ = {
            **SETTINGS,
            **settings,
            "WS_ADDR": f"{LOOPBACK}:{self.port}",
            "WS_OPS_ADDR": f"{LOOPBACK}:{self.ops_port}",
        }
        command = [str(Path(sys.executable).with_name("odin-ws")), "serve"]
        self.log: Final = directory / f"instance-{name}.log"
        self._process = ChildProcess(program(command, environ), self.log)

    @property
    def pid(self) -> int:
        """The process id of the instance."""
        return self._process.pid

    async def start(self) -> None:
        """Start the instance, and wait until it is ready.

        Raises:
            InstanceFailed: the instance exited instead.
            trio.TooSlowError: the instance was not ready within `READY_SECONDS`.
        """
        await self._process.start()
        await until(self._is_ready, READY_SECONDS)

    async def drain(self) -> None:
        """Send SIGTERM, as a rolling restart does, and wait for the exit.

        Raises:
            InstanceFailed: the exit status was not 0.
            trio.TooSlowError: the instance had not exited within `DRAINED_SECONDS`.
        """
        self._process.signal(signal.SIGTERM)
        with trio.fail_after(DRAINED_SECONDS):
            status = await self._process.wait()
        if status != 0:
            raise InstanceFailed(
                f"{self.name} drained with status {status}:\n{self._process.tail()}"
            )

    async def ended(self) -> int:
        """Wait for the exit of the instance; return its exit status."""
        return await self._process.wait()

    async def kill(self) -> None:
        """Send SIGKILL."""
        await self._process.kill()

    def freeze(self) -> None:
        """Send SIGSTOP: connections stay open, without responses."""
        self._process.pause()

    def thaw(self) -> None:
        """Send SIGCONT."""
        self._process.unpause()

    async def connections(self) -> int:
        """Return the number of connected clients."""
        return int(await self.metric("ws_connections_active"))

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        text = (await self._get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def health(self) -> dict[str, Any]:
        """Return the health report, for any HTTP status."""
        report: dict[str, Any] = (await self._get("/health")).json()
        return report

    async def _is_ready(self) -> bool:
        if not self._process.running:
            raise InstanceFailed(f"{self.name} ended:\n{self._process.tail()}")
        try:
            return (await self._get("/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def _get(self, path: str) -> httpx.Response:
        async with plain_client(ANSWER_SECONDS) as client:
            return await client.get(f"http://{LOOPBACK}:{self.ops_port}{path}")


@asynccontextmanager
async def run_instances(
    settings: Sequence[Mapping[str, str]], directory: Path
) -> AsyncIterator[list[Instance]]:
    """Run an instance with each of these settings; SIGKILL ends them with the block."""
    instances = [Instance(name, own, directory) for name, own in zip(NAMES, settings, strict=False)]
    async with AsyncExitStack() as stack:
        for instance in instances:
            stack.push_async_callback(_killed, instance)
        async with trio.open_nursery() as nursery:
            for instance in instances:
                nursery.start_soon(instance.start)
        yield instances


async def _killed(instance: Instance) -> None:
    with trio.CancelScope(shield=True):  # bounded by the kernel's work after SIGKILL
        await instance.kill()
