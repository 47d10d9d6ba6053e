"""`python -m tests.bench.compile_load`: compiles what the load processes run, and stores it.

Tests of the benchmark take the stored code, however many processes they run in at once. Each of
them would otherwise compile it for 20 seconds.
"""

from __future__ import annotations

import select

import numpy as np

from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.socket_drain import Ready, drain
from tests.bench.frames import tables

__all__ = ["main"]


def main() -> None:
    """Call with the types of a benchmark what it calls."""
    with select.epoll() as epoll:
        drain(Ready.empty(epoll.fileno(), descriptors=1), tables([0]), 1)
    nothing = np.zeros(0, np.int64)
    matched(nothing, 0, nothing)


if __name__ == "__main__":
    main()
