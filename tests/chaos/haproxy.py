"""HAProxy in front of the instances: its configuration, and its runtime socket."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.integration.running_source import eventually, until

__all__ = ["HAProxy", "HAProxyFailed", "find_haproxy", "haproxy"]

# Debian puts it where only root looks for programs.
PLACES: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

STOP_SECONDS: Final = 5
ANSWER_SECONDS: Final = 5
READY_SECONDS: Final = 30

# Why these values:
# - check: an instance that drains says 503 at once and closes its port after WS_DRAIN_DELAY_SECONDS
#   (1 s);
#   three checks in that second send newcomers elsewhere before they would be rejected.
# - no `on-marked-down shutdown-sessions`: an instance that drains is down for the check, and its
#   clients would be cut off instead of being sent away in order (1012). The price: clients of an
#   instance that hangs hear of it by their own heartbeat only.
# - tunnel: WebSockets live long, and pings of both sides say whether they live; the timeouts of
#   client and server hold until the upgrade only.
# - redispatch, retry-on: a newcomer is not made to wait for an instance that has just gone; 5 s is
#   what one may take for the answer to the upgrade.
CONFIGURATION: Final = """\
global
    stats socket {control} mode 600 level admin
    maxconn 4096

defaults
    mode http
    balance leastconn
    timeout http-request 5s
    timeout connect 2s
    timeout client 10s
    timeout server 5s
    timeout client-fin 5s
    timeout server-fin 5s
    timeout tunnel 1h
    timeout check 1s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout

frontend subscribers
{binds}
    default_backend instances

backend instances
    option httpchk GET /health/ready
    default-server check inter 250ms fall 3 rise 2
{servers}
"""


def find_haproxy() -> str | None:
    """The path of the program, where it is installed."""
    return shutil.which("haproxy", path=PLACES)


class HAProxyFailed(RuntimeError):
    """It did not start; the message ends with its output."""


class HAProxy:
    """A running balancer. `port`: where subscribers connect."""

    def __init__(self, port: int, control: Path) -> None:
        self.port: Final = port
        self._control = control

    async def cut(self, server: str) -> None:
        """Break every connection to this instance, on both sides, without a close frame."""
        await self._ask(f"shutdown sessions server instances/{server}")

    async def sends_to(self, servers: Sequence[str]) -> None:
        """Return when newcomers are sent to each of these. Raises trio.TooSlowError."""

        async def all_up() -> bool:
            return await self._up() >= set(servers)

        await until(all_up, READY_SECONDS)

    async def _up(self) -> set[str]:
        rows = csv.DictReader((await self._ask("show stat")).lstrip("# ").splitlines())
        return {
            row["svname"]
            for row in rows
            if row["pxname"] == "instances" and row["status"].startswith("UP")
        }

    async def _ask(self, command: str) -> str:
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_unix_socket(str(self._control)) as control:
                await control.send_all(command.encode() + b"\n")
                return b"".join([part async for part in control]).decode()


@asynccontextmanager
async def haproxy(
    program: str, directory: Path, instances: Sequence[tuple[str, int, int]], hosts: Sequence[str]
) -> AsyncIterator[HAProxy]:
    """Run it over instances: name, port, ops port. `hosts`: where to listen besides loopback."""
    (port,) = free_ports(1)
    configuration = directory / "haproxy.cfg"
    process = ChildProcess([program, "-db", "-f", str(configuration)], directory / "haproxy.log")
    # Not in `directory`: the kernel takes a socket's path of 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="odin-haproxy-") as short:
        control = Path(short, "socket")
        servers = [
            f"    server {name} {LOOPBACK}:{port} port {ops}" for name, port, ops in instances
        ]
        text = CONFIGURATION.format(
            control=control,
            binds="\n".join(f"    bind {host}:{port}" for host in (LOOPBACK, *hosts)),
            servers="\n".join(servers),
        )
        configuration.write_text(text, "utf-8")
        try:
            await process.start()
            balancer = HAProxy(port, control)
            await eventually(lambda: control.exists() or not process.running, READY_SECONDS)
            if not process.running:
                raise HAProxyFailed(f"HAProxy ended:\n{process.tail()}")
            await balancer.sends_to([name for name, _, _ in instances])
            yield balancer
        finally:
            with trio.CancelScope(shield=True):  # bounded by STOP_SECONDS
                await process.end(STOP_SECONDS)
