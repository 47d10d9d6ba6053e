"""SIGTERM and SIGINT before the service waits for them, and after.

Without a handler the kernel does not deliver SIGTERM to process 1 of a container, and SIGINT is a
traceback. So the command installs this one before it loads anything else. A Trio task that receives
the signals takes its place, and gives it back.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Final

__all__ = ["ExitSignals", "exit_signals"]

_STDERR: Final = 2


class ExitSignals:
    """Ends the process at once on SIGTERM and SIGINT, with a line on stderr and a status."""

    def __init__(self) -> None:
        self.status = 1
        """What the process ends with: whoever knows better says so."""
        self.when = "before it began"
        """At which stage, for the line."""

    def install(self, status: int) -> None:
        """Take the signals from now on."""
        self.status = status
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    @staticmethod
    def ignore() -> None:
        """Leave the signals alone, for Python's own end: it would restore what the system does."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _end(self, number: int, _frame: object) -> None:
        # Nothing is unwound: the signal may have come anywhere, in the middle of an import too.
        name = signal.Signals(number).name
        _write_if_possible(f"odin-ws: stopped by {name} {self.when}\n".encode())
        os._exit(self.status)


def _write_if_possible(line: bytes) -> None:
    """Write a line to stderr unless that would wait for a reader."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        try:
            os.write(_STDERR, line)
        except OSError:
            return  # nowhere to write to


exit_signals: Final = ExitSignals()
