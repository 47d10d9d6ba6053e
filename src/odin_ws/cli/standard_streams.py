"""Writes to stdout and stderr that survive a closed pipe or a full disk.

Whatever writes to standard output (click, rich, a JSON encoder) raises the same two exceptions, and
a command ends by them with one line. What cannot be said on standard error is not said.
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

# How long a line on standard error may wait for a reader, where that is no terminal: whoever has
# stopped reading must not keep a failed command from ending.
_STDERR_SECONDS: Final = 1.0


class _Descriptor(io.RawIOBase):
    """A descriptor that is written to; -1 where it was closed already when the process started."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor. Raises OSError where there is none."""
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """It is, or says so when it is tried."""
        return True


class _Output(_Descriptor):
    """Standard output. After a failure it takes everything, for Python flushes it at the end."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        """Write, and return how much was. Raises OutputFailed or OutputClosed, once."""
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


class _Errors(_Descriptor):
    """Standard error. What cannot be written is dropped, and so is what nobody reads in time."""

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written; returns the length of all of it."""
        rest = memoryview(data).cast("B")
        total = rest.nbytes
        try:
            while rest and self._takes_more():
                rest = rest[os.write(self.fileno(), rest[: select.PIPE_BUF]) :]
        except OSError:
            pass  # there is no other place to say it
        return total

    def _takes_more(self) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        return bool(poll.poll(None if self.isatty() else _STDERR_SECONDS * 1000))


def protect_streams() -> None:
    """Put both in the place of sys.stdout and sys.stderr."""
    output, errors = sys.stdout, sys.stderr
    # Where one is closed, no file or socket that is opened later may get its number.
    _occupy_closed_descriptors()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(-1 if output is None else _STDOUT)),
        encoding=getattr(output, "encoding", "utf-8"),
        errors=getattr(output, "errors", "strict"),
        line_buffering=getattr(output, "line_buffering", False),
        write_through=getattr(output, "write_through", False),
    )
    sys.stderr = io.TextIOWrapper(
        _Errors(-1 if errors is None else _STDERR),  # unbuffered
        encoding=getattr(errors, "encoding", "utf-8"),
        errors="backslashreplace",
        write_through=True,
    )


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write to a file or to standard output. Raises OutputFailed and OutputClosed.

    Past the file's buffer: what that cannot write it would try to write again when it is closed.
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
