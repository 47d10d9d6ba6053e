"""A queue and a thread for log lines: the event loop never waits for stderr.

A pipe without a reader takes 64 KiB; then a write to it blocks.
"""

from __future__ import annotations

import contextvars
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any, Final

__all__ = ["LogQueue", "dropped_lines", "log_queue"]

_STDERR: Final = 2

# Limits for a reader that has stopped: an hour of normal logs, or a second of LOG_LEVEL=debug under
# load.
_MAX_LINES: Final = 10_000
_MAX_BYTES: Final = 4 << 20

# Time for which the exit of the process waits for the reader.
_FLUSH_SECONDS: Final = 1.0

_log: Final = logging.getLogger("odin_ws.logs")


class LogQueue(QueueHandler):
    """A log handler that formats records where they are logged and writes them in a thread.

    Drops lines while too many are queued or writing fails (a full disk, a closed pipe). Counts
    both, and logs one line about it once there is room again.

    Args:
        write: writes a whole line and may block, in the thread. Raises OSError.
        max_lines: limit of queued lines.
        max_bytes: limit of their total size; the line that exceeds it is the last.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        max_lines: int = _MAX_LINES,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        # The limits are checked here, so that bytes count too.
        super().__init__(SimpleQueue())
        self._write = write
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        # One side increments each: records are handled under the handler's own lock, and there is
        # one thread.
        self._taken_lines = self._taken_bytes = self._rejected = 0
        self._done_lines = self._done_bytes = self._failed = 0
        self._reported = 0
        self._done = threading.Condition()
        self._context = contextvars.copy_context()
        self._listener = _Listener(self.queue, self._write_next)

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped so far."""
        return self._rejected + self._failed

    def start(self) -> None:
        """Start the thread, a daemon."""
        self._listener.start()

    def flush_for(self, seconds: float) -> bool:
        """Wait until all lines are written, for at most `seconds`; returns whether they are."""
        with self._done:
            return self._done.wait_for(lambda: self._done_lines >= self._taken_lines, seconds)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a formatted record, or count it as dropped."""
        waiting = self._taken_lines - self._done_lines
        if waiting >= self._max_lines or self._taken_bytes - self._done_bytes >= self._max_bytes:
            self._rejected += 1
            return
        self._taken_lines += 1
        self._taken_bytes += len(record.message)
        # Only the line: a record is ten times as large.
        self.queue.put_nowait(record.message)

    def _write_next(self, line: str) -> None:
        """Write a line, and possibly one about dropped lines. Runs in the thread."""
        if not self._could_write(line):
            self._failed += 1
        # Only below half of the limit: otherwise more lines would be dropped soon.
        elif (
            self._taken_lines - self._done_lines <= self._max_lines // 2
            and self._taken_bytes - self._done_bytes <= self._max_bytes // 2
        ):
            self._report_dropped()
        with self._done:
            self._done_lines += 1
            self._done_bytes += len(line)
            self._done.notify_all()

    def _report_dropped(self) -> None:
        dropped = self.dropped
        if dropped == self._reported:
            return
        extra = {"lines": dropped - self._reported}
        record = _log.makeRecord(
            _log.name, logging.ERROR, __file__, 0, "log lines were dropped", (), None, extra=extra
        )
        # In the context that has the worker's number.
        if self._could_write(self._context.run(self.format, record)):
            self._reported = dropped

    def _could_write(self, line: str) -> bool:
        try:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            return False
        return True


class _Listener(QueueListener):
    """Calls a function for each line; the standard library's class calls handlers."""

    def __init__(self, queue: Any, write: Callable[[str], None]) -> None:
        super().__init__(queue)
        self._write = write

    def handle(self, record: Any) -> None:
        """Call the function for an item of the queue. Runs in the thread."""
        self._write(record)


@contextmanager
def log_queue() -> Iterator[LogQueue]:
    """Queue log lines before stderr; at the end of the block wait up to a second for the writes.

    Captures Python's warnings and unraisable errors too, which any task would otherwise print on
    stderr itself.
    """
    queue = LogQueue(write_to_stderr)
    logging.captureWarnings(capture=True)
    previous = sys.unraisablehook
    sys.unraisablehook = _log_unraisable
    queue.start()
    try:
        yield queue
    finally:
        queue.flush_for(_FLUSH_SECONDS)
        sys.unraisablehook = previous
        logging.captureWarnings(capture=False)


def dropped_lines() -> int:
    """Return how many lines this process has dropped."""
    handlers = logging.getLogger().handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, LogQueue))


def write_to_stderr(line: bytes) -> None:
    """Write a line, bypassing Python's buffer, whose lock could block the exit of the process."""
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(_STDERR, rest) :]
        except BlockingIOError:
            # Another process has made it non-blocking, for example on a shared terminal.
            select.select([], [_STDERR], [])


def _log_unraisable(unraisable: Any) -> None:
    what = unraisable.err_msg or "exception ignored in"
    error = unraisable.exc_value
    _log.error("%s %s", what, type(unraisable.object).__name__, exc_info=error)
