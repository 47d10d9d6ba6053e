"""Runs `odin-ws` as a child process, to its end or while the test reads its output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final

import trio

__all__ = ["ODIN_WS", "Command", "Done", "run_command", "started"]

ODIN_WS: Final = str(Path(sys.executable).with_name("odin-ws"))

# Most commands take half a second, and the demo ten; the rest is for a busy machine.
PATIENCE = 60.0

Done = subprocess.CompletedProcess[str]

NO_FILES: Final[Mapping[str, IO[bytes]]] = {}


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with only these settings."""
    ours = ("KAFKA_", "WS_", "LOG_", "ODIN_WS_")
    others = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return others | dict(settings)


async def run_command(*words: str, **settings: str) -> Done:
    """Run `odin-ws` with `words` and `settings` until it exits."""
    async with started([ODIN_WS, *words], **settings) as command:
        return await command.ended()


class Command:
    """A running command and its output so far."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = {"out": b"", "err": b""}
        self._open = {"out", "err"}
        self._more = trio.Event()

    async def says(self, text: str, *, on: str = "err") -> None:
        """Wait until the stream `on` contains `text`: "out" for stdout, "err" for stderr."""
        with trio.fail_after(PATIENCE):
            while text.encode() not in self._said[on]:
                assert on in self._open, f"it ended without {text!r}: {self._said}"
                await self._more.wait()

    async def ended(self) -> Done:
        """Wait until the command exits."""
        with trio.fail_after(PATIENCE):
            status = await self._process.wait()
            while self._open:
                await self._more.wait()
        out, err = (output.decode() for output in self._said.values())
        return Done(self._process.args, status, out, err)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    async def hang_up(self) -> None:
        """Close the pipe of stdout, as `head` does."""
        assert self._process.stdout is not None
        await self._process.stdout.aclose()

    async def listen(self, on: str, stream: trio.abc.ReceiveStream | None) -> None:
        """Collect the output."""
        if stream is None:
            self._open.remove(on)
            return
        with suppress(trio.ClosedResourceError):  # hung up
            async for data in stream:
                self._said[on] += data
                self._tell()
        self._open.remove(on)
        self._tell()

    def _tell(self) -> None:
        self._more.set()
        self._more = trio.Event()


@asynccontextmanager
async def started(
    words: Sequence[str], files: Mapping[str, IO[bytes]] = NO_FILES, /, **settings: str
) -> AsyncIterator[Command]:
    """Run a command for at most the length of the block."""
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.run_process,
            words,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            check=False,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **files},
        )
        process: trio.Process = await nursery.start(start)
        command = Command(process)
        nursery.start_soon(command.listen, "out", process.stdout)
        nursery.start_soon(command.listen, "err", process.stderr)
        yield command
        nursery.cancel_scope.cancel()
