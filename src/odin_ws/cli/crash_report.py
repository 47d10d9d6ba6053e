"""Prints the traceback of an exception that ends the process."""

from __future__ import annotations

import sys
from traceback import TracebackException
from types import TracebackType
from typing import Final

__all__ = ["print_crash"]

# Above the depth of nested nurseries: one exception group each, two for each of trio-asyncio's.
_MAX_GROUP_DEPTH: Final = 100


def print_crash(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of an exception that ends the process: a `sys.excepthook`.

    Python's own hook shows exception groups to a depth of 10. The nurseries of the service and
    of its Kafka client nest deeper, and the cause is the innermost exception.
    """
    lines = TracebackException(
        kind, error, traceback, compact=True, max_group_depth=_MAX_GROUP_DEPTH
    ).format()
    sys.stderr.write("".join(lines))
