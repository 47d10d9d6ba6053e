"""A child process that is started, signalled and ended as often as its owner likes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["ChildProcess"]

# After SIGKILL only the kernel has work left; longer than this means a process stuck in it.
KILLED_SECONDS = 5

# Waits for the end of its input, and kills the process with this number unless a line came before.
# The kernel's own way (PR_SET_PDEATHSIG) ends a process with the thread that started it, and Trio
# starts processes in threads that end after ten idle seconds.
GUARD = ("sh", "-c", 'read -r _ || kill -KILL "$0"')

# Enough for a Java stack trace with the lines that led to it.
TAIL_LINES = 40


class ChildProcess:
    """Runs `command` with its output appended to the file `log`.

    The process does not outlive its owner, not even one that ends by SIGKILL: a guard, a process
    of its own, then kills it.

    `environ`: its environment; None for that of this process.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self._command = command
        self._log = log
        self._environ = environ
        self._process: trio.Process | None = None
        self._guard: trio.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process that was started last.

        Raises:
            RuntimeError: none was started.
        """
        if self._process is None:
            msg = f"{self._command[0]} was never started"
            raise RuntimeError(msg)
        return self._process.pid

    async def start(self) -> None:
        """Start the program.

        Raises:
            RuntimeError: it is running already.
            OSError: it cannot be run.
        """
        if self.running:
            msg = f"{self._command[0]} is running already"
            raise RuntimeError(msg)
        await self._release_guard()
        with _appending(self._log) as log:
            self._process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ,
                # Ctrl-C in a terminal signals the whole process group, but the parent decides when
                # this child ends.
                start_new_session=True,
            )
        self._guard = await trio.lowlevel.open_process(
            [*GUARD, str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    async def _release_guard(self) -> None:
        """End the guard of a process that has ended: its number may become another's."""
        guard, self._guard = self._guard, None
        if guard is None or guard.stdin is None:
            return
        with trio.CancelScope(shield=True):
            with suppress(trio.BrokenResourceError):  # the guard was killed
                await guard.stdin.send_all(b"\n")
            await guard.stdin.aclose()
            await guard.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process is not running."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """Freeze it with SIGSTOP; nothing happens if the process is not running."""
        self.signal(signal.SIGSTOP)
        if self.running:
            # Not stopped yet: its threads on other cores run for a moment and may respond. An exit
            # would end the wait too; callers see either.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def unpause(self) -> None:
        """Continue after `pause`."""
        self.signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, which is -N after signal N.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            msg = f"{self._command[0]} was never started"
            raise RuntimeError(msg)
        status = await self._process.wait()
        await self._release_guard()
        return status

    async def end(self, grace: float) -> None:
        """Ask it to end with SIGTERM, and kill it when it has not within `grace` seconds."""
        if not self.running:
            await self._release_guard()
            return
        self.signal(signal.SIGTERM)
        # A stopped process handles SIGTERM when it continues.
        self.signal(signal.SIGCONT)
        with trio.move_on_after(grace):
            await self.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL.

        Raises:
            trio.TooSlowError: the kernel did not end it within `KILLED_SECONDS`.
        """
        if self.running:
            self.signal(signal.SIGKILL)
            with trio.fail_after(KILLED_SECONDS):
                await self.wait()

    def tail(self) -> str:
        """Return the last lines of the output, for an error message."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as lines:
                return "".join(deque(lines, maxlen=TAIL_LINES))
        except FileNotFoundError:
            return ""


@contextmanager
def _appending(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for a child to append to, and close it here once the child has it."""
    with path.open("ab") as file:
        yield file
