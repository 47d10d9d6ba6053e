"""HAProxy in front of the instances: the shipped configuration, and the runtime socket."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.deploy.debian import find_program
from tests.integration.running_source import until, wait_until

__all__ = ["HAProxy", "HAProxyFailed", "configuration", "find_haproxy", "haproxy"]

STOP_SECONDS: Final = 5
ANSWER_SECONDS: Final = 5
READY_SECONDS: Final = 30

# Maximum number of connections of both sides: the machine may allow few descriptors.
MAX_CONNECTIONS: Final = 4096

# The shipped configuration, with other names and ports; its file explains each setting.
SHIPPED: Final = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
BACKEND: Final = "odin-ws"


def find_haproxy() -> str | None:
    """Return the path of the program, or None if it is not installed."""
    return find_program("haproxy")


def configuration(
    control: Path, binds: Sequence[str], stats: int, instances: Sequence[tuple[str, int, int]]
) -> str:
    """Return the shipped configuration with a runtime socket and these addresses.

    `binds`: addresses for subscribers; `stats`: port of the statistics; `instances`: name, port,
    ops port.
    """
    servers = [f"    server {name} {LOOPBACK}:{port} port {ops}" for name, port, ops in instances]
    changes = {
        r"^global\n": f"global\n    stats socket {control} mode 600 level admin\n",
        r"^    maxconn \d+\n": f"    maxconn {MAX_CONNECTIONS}\n",
        r"^    bind :3002\n": "".join(f"    bind {bind}\n" for bind in binds),
        r"^    bind :8404\n": f"    bind {LOOPBACK}:{stats}\n",
        r"(^    server .*\n)+": "\n".join(servers) + "\n",
    }
    text = SHIPPED.read_text("utf-8")
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count == 1, pattern
    return text


class HAProxyFailed(RuntimeError):
    """HAProxy did not start; the message ends with its output."""


class HAProxy:
    """A running balancer.

    Attributes:
        port: the port for subscribers.
        stats_port: the port of the statistics.
    """

    def __init__(self, port: int, stats_port: int, control: Path) -> None:
        self.port: Final = port
        self.stats_port: Final = stats_port
        self._control = control

    async def cut(self, server: str) -> None:
        """Break every connection to this instance, on both sides, without a close frame."""
        await self._send_command(f"shutdown sessions server {BACKEND}/{server}")

    async def sends_to(self, servers: Sequence[str]) -> None:
        """Wait until new connections go to each of these servers.

        Raises:
            trio.TooSlowError: a server gets no connections in time.
        """

        async def all_up() -> bool:
            return await self._up() >= set(servers)

        await until(all_up, READY_SECONDS)

    async def _up(self) -> set[str]:
        rows = csv.DictReader((await self._send_command("show stat")).lstrip("# ").splitlines())
        return {
            row["svname"]
            for row in rows
            if row["pxname"] == BACKEND
            and row["svname"] != "BACKEND"
            and row["status"].startswith("UP")
        }

    async def _send_command(self, command: str) -> str:
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_unix_socket(str(self._control)) as control:
                await control.send_all(command.encode() + b"\n")
                return b"".join([part async for part in control]).decode()


@asynccontextmanager
async def haproxy(
    program: str,
    directory: Path,
    instances: Sequence[tuple[str, int, int]],
    hosts: Sequence[str] = (),
    port: int | None = None,
) -> AsyncIterator[HAProxy]:
    """Run HAProxy over instances: name, port, ops port. `hosts`: addresses besides loopback.

    `port`: for subscribers; None: any free one.
    """
    free, stats = free_ports(2)
    port = port or free
    file = directory / "haproxy.cfg"
    process = ChildProcess([program, "-db", "-f", str(file)], directory / "haproxy.log")
    # Not in `directory`: a socket's path may have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="odin-haproxy-") as short:
        control = Path(short, "socket")
        binds = [f"{host}:{port}" for host in (LOOPBACK, *hosts)]
        file.write_text(configuration(control, binds, stats, instances), "utf-8")
        try:
            await process.start()
            balancer = HAProxy(port, stats, control)
            await wait_until(lambda: control.exists() or not process.running, READY_SECONDS)
            if not process.running:
                raise HAProxyFailed(f"HAProxy ended:\n{process.tail()}")
            await balancer.sends_to([name for name, _, _ in instances])
            yield balancer
        finally:
            with trio.CancelScope(shield=True):  # bounded by STOP_SECONDS
                await process.end(STOP_SECONDS)
