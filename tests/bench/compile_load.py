"""`python -m tests.bench.compile_load`: compiles the code of the load processes, and stores it.

Tests of the benchmark load the stored code in any number of processes. Without the stored code,
each process would compile for 20 s.
"""

from __future__ import annotations

import select

import numpy as np

from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.socket_drain import Ready, drain
from tests.bench.frames import tables

__all__ = ["main"]


def main() -> None:
    """Call the compiled functions with the argument types of a benchmark."""
    with select.epoll() as epoll:
        drain(Ready.empty(epoll.fileno(), descriptors=1), tables([0]), 1)
    nothing = np.zeros(0, np.int64)
    matched(nothing, 0, nothing)


if __name__ == "__main__":
    main()
