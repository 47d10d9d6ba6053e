"""Exits at once on SIGTERM and SIGINT, before the event loop runs and after it: see cli/signals.py.

Without a handler the kernel does not deliver SIGTERM to process 1 of a container, and SIGINT raises
a traceback. So the command installs this handler before it imports anything else. A Trio task that
receives the signals replaces it, and restores it at its end.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Final

__all__ = ["EarlyExit", "early_exit"]

_STDERR: Final = 2


class EarlyExit:
    """Exits at once on SIGTERM and SIGINT, with a line on stderr and a status."""

    def __init__(self) -> None:
        self.status = 1
        """The exit status; commands update it."""
        self.when = "before it began"
        """The current stage, for the line."""

    def install(self, status: int) -> None:
        """Handle the signals from now on."""
        self.status = status
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    @staticmethod
    def ignore() -> None:
        """Ignore the signals while Python exits, which would restore the default actions."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _end(self, number: int, _frame: object) -> None:
        # Nothing is unwound: the signal may come anywhere, also during an import.
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
            return  # stderr is closed


early_exit: Final = EarlyExit()
