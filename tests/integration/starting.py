"""A server while it starts: what it loads and says, without a broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import psutil
import pytest

from odin_ws.testing.ports import LOOPBACK
from tests.integration.servers import environment

__all__ = ["PATIENCE", "SERVE", "SERVE_SILENTLY", "SERVING", "Starting", "starting"]

PATIENCE = 60.0

SERVING = '"event": "serving"'

# Tells each module on stderr as soon as it is loaded.
SERVE: Final = (sys.executable, "-X", "importtime", "-m", "odin_ws", "serve")

# The same without that, which takes time.
SERVE_SILENTLY: Final = (sys.executable, "-m", "odin_ws", "serve")


class Starting:
    """A server that starts. `lines`: what it has said so far."""

    def __init__(self, process: subprocess.Popen[str], *, wrapped: bool) -> None:
        self.process = process
        self._wrapped = wrapped
        self.lines: list[str] = []

    def reaches(self, stage: str) -> None:
        """Read until it says so."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if stage in line:
                return
        pytest.fail(f"it ended before {stage}: {self.log_lines[-20:]}")

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        own = psutil.Process(self.process.pid)
        for process in own.children() if self._wrapped else [own]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def ended(self) -> int:
        """Read the rest; returns the exit status."""
        assert self.process.stderr is not None
        self.lines += self.process.stderr
        return self.process.wait(PATIENCE)

    @property
    def log_lines(self) -> list[str]:
        """The lines that are not about modules."""
        return [line for line in self.lines if not line.startswith("import time:")]


@contextmanager
def starting(
    prefix: Sequence[str] = (), command: Sequence[str] = SERVE, **settings: str
) -> Iterator[Starting]:
    """Start a server without a broker; it is killed at the end of the block."""
    usual = {
        "KAFKA_BROKERS": f"{LOOPBACK}:1",
        "WS_ADDR": f"{LOOPBACK}:0",
        "WS_OPS_ADDR": f"{LOOPBACK}:0",
        "WS_DRAIN_DELAY_SECONDS": "0",
    }
    process = subprocess.Popen(
        [*prefix, *command],
        env=environment(usual | settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Starting(process, wrapped=bool(prefix))
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
