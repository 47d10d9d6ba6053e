"""A signal ends a tool of the tests with everything that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.running_source import wait_until

# A broker and a server.
START_SECONDS = 60
END_SECONDS = 15

HOSTILE = ["tests.hostile", "--good", "2", "--bad", "2", "--seconds", "60"]


@contextmanager
def running(words: Sequence[str], folder: Path) -> Iterator[psutil.Process]:
    """Run a tool with this folder for temporary files."""
    environ = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as tool:
        process = psutil.Process(tool.pid)
        try:
            yield process
        finally:
            tool.kill()


def servers_of(tool: psutil.Process) -> list[psutil.Process]:
    """The servers that a tool has started."""
    found = []
    for process in tool.children(recursive=True):
        try:
            if {"odin-ws", "serve"} <= {Path(word).name for word in process.cmdline()}:
                found.append(process)
        except psutil.NoSuchProcess:
            pass  # a child that has ended meanwhile
    return found


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (HOSTILE, signal.SIGTERM),
        (HOSTILE, signal.SIGKILL),
        (["tests.hostile.memory"], signal.SIGINT),
    ],
    ids=["SIGTERM", "SIGKILL", "SIGINT"],
)
async def test_signal_ends_a_tool_with_its_server_and_its_directory(
    tmp_path: Path, words: list[str], number: signal.Signals
) -> None:
    """As `timeout` does it, or Ctrl-C. SIGKILL leaves the directory, but no process."""
    with running(words, tmp_path) as tool:
        await wait_until(lambda: servers_of(tool), START_SECONDS)
        started = tool.children(recursive=True)
        tool.send_signal(number)
        await wait_until(lambda: not any(map(psutil.pid_exists, pids(started))), END_SECONDS)
        status = tool.wait()
    if number is not signal.SIGKILL:
        assert status == 128 + number
        assert os.listdir(tmp_path) == []  # noqa: PTH208 -- pathlib blocks in async functions


def pids(processes: Sequence[psutil.Process]) -> list[int]:
    """Their ids."""
    return [process.pid for process in processes]
