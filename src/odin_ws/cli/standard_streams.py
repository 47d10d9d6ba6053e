"""Writes to stdout and stderr that survive a closed pipe or a full disk.

Every writer (click, rich, a JSON encoder) raises OutputClosed or OutputFailed, and the command ends
with one line. Failures to write to standard error are ignored.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import IO, TYPE_CHECKING, Final

from odin_ws.cli.failures import OutputClosed, OutputFailed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["protect_streams", "write_all"]

_STDOUT: Final = 1
_STDERR: Final = 2

# Maximum wait in seconds for the reader of standard error, unless the reader is a terminal: a
# stopped reader must not keep a failed command from ending.
_STDERR_SECONDS: Final = 1.0


class _Descriptor(io.RawIOBase):
    """A writable file descriptor; -1 if it was closed when the process started."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor. Raises OSError if it is closed."""
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True; a write reports whether that holds."""
        return True


class _Stdout(_Descriptor):
    """Standard output. Accepts all writes after a failure, because Python flushes it at exit."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        """Write `data`; returns the number of bytes. Raises OutputFailed or OutputClosed, once."""
        if self._failed:
            return memoryview(data).nbytes
        try:
            return os.write(self.fileno(), data)
        except BrokenPipeError as error:
            self._failed = True
            raise OutputClosed from error
        except OSError as error:
            self._failed = True
            raise OutputFailed("standard output", error) from error


class _Stderr(_Descriptor):
    """Standard error. Drops data that cannot be written, or is not read within 1 s."""

    def write(self, data: ReadableBuffer) -> int:
        """Write as much of `data` as possible; returns the length of `data`."""
        rest = memoryview(data).cast("B")
        total = rest.nbytes
        try:
            while rest and self._is_writable():
                rest = rest[os.write(self.fileno(), rest[: select.PIPE_BUF]) :]
        except OSError:
            pass  # no other stream is left for the error
        return total

    def _is_writable(self) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        return bool(poll.poll(None if self.isatty() else _STDERR_SECONDS * 1000))


def protect_streams() -> None:
    """Replace sys.stdout and sys.stderr with `_Stdout` and `_Stderr`."""
    output, errors = sys.stdout, sys.stderr
    # If a standard descriptor is closed, a file opened later must not get its number.
    _occupy_closed_descriptors()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Stdout(-1 if output is None else _STDOUT)),
        encoding=getattr(output, "encoding", "utf-8"),
        errors=getattr(output, "errors", "strict"),
        line_buffering=getattr(output, "line_buffering", False),
        write_through=getattr(output, "write_through", False),
    )
    sys.stderr = io.TextIOWrapper(
        _Stderr(-1 if errors is None else _STDERR),  # unbuffered
        encoding=getattr(errors, "encoding", "utf-8"),
        errors="backslashreplace",
        write_through=True,
    )


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write to a file or to standard output. Raises OutputFailed and OutputClosed.

    Bypasses the file's buffer, which would retry a failed write when the file is closed.
    """
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise OutputFailed(file.name, error) from error


def _occupy_closed_descriptors() -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STDERR:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
