"""A child process that can be started, signalled and ended several times."""

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

# Timeout after SIGKILL, after which a process is stuck in the kernel.
KILLED_SECONDS = 5

# The guard: waits for the end of its input, and kills the process with this id unless it has read a
# line. PR_SET_PDEATHSIG would end a process with the thread that started it, and Trio starts
# processes in threads that end after ten idle seconds.
GUARD = ("sh", "-c", 'read -r _ || kill -KILL "$0"')

# Lines of output in an error message: a Java stack trace and the lines before it.
TAIL_LINES = 40


class ChildProcess:
    """Runs `command` with its output appended to the file `log`.

    The process does not outlive its owner, even if the owner ends by SIGKILL: another process, the
    guard, then kills it.

    Args:
        command: the program and its arguments.
        log: the file for standard output and standard error.
        environ: the environment; None for that of this process.
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
        """True if the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the last started process.

        Raises:
            RuntimeError: the process was never started.
        """
        if self._process is None:
            msg = f"{self._command[0]} was never started"
            raise RuntimeError(msg)
        return self._process.pid

    async def start(self) -> None:
        """Start the program.

        Raises:
            RuntimeError: the process is already running.
            OSError: the program cannot be run.
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
        """End the guard of a process that has ended: another process may get its id."""
        guard, self._guard = self._guard, None
        if guard is None or guard.stdin is None:
            return
        with trio.CancelScope(shield=True):
            with suppress(trio.BrokenResourceError):  # the guard was killed
                await guard.stdin.send_all(b"\n")
            await guard.stdin.aclose()
            await guard.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the process is not running."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """Freeze the process with SIGSTOP; does nothing if the process is not running."""
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
            RuntimeError: the process was never started.
        """
        if self._process is None:
            msg = f"{self._command[0]} was never started"
            raise RuntimeError(msg)
        status = await self._process.wait()
        await self._release_guard()
        return status

    async def end(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL if the process has not ended within `grace` seconds."""
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
        """End the process with SIGKILL.

        Raises:
            trio.TooSlowError: the process had not ended within `KILLED_SECONDS`.
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
    """Open a file for a child to append to; closes this process's descriptor after the block."""
    with path.open("ab") as file:
        yield file
