"""`python -m tests.hostile.crowd PORT OPS_PORT COUNT [KIND …]`: bad clients, until it is killed."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from itertools import cycle
from typing import Final

import trio

from odin_ws.testing.ports import LOOPBACK
from tests.hostile.kinds import AT_ONCE, KINDS, ON_OPS_PORT, Visit

__all__ = ["main"]

# Whoever was sent away comes back after so long, give or take half of it: 2,000 make no more than
# some hundreds of visits a second.
_AGAIN_SECONDS: Final = 5.0
_AT_ONCE_SECONDS: Final = 1.0

# Nobody stays for ever: what is bounded is met again and again.
_VISIT_SECONDS: Final = 20.0


async def _come_and_go(port: int, visit: Visit) -> None:
    pause = _AT_ONCE_SECONDS if visit in AT_ONCE else _AGAIN_SECONDS
    await trio.sleep(random.uniform(0, _AGAIN_SECONDS))  # noqa: S311 -- no secret
    while True:
        with trio.move_on_after(_VISIT_SECONDS):
            try:
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    await visit(stream)
            except (OSError, trio.BrokenResourceError):
                pass  # sent away: that is what it is for
        await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret


async def _crowd(port: int, ops_port: int, count: int, kinds: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        for _, kind in zip(range(count), cycle(kinds or KINDS)):
            visit = KINDS[kind]
            nursery.start_soon(_come_and_go, ops_port if visit in ON_OPS_PORT else port, visit)


def main(words: Sequence[str]) -> None:
    """Run them."""
    port, ops_port, count, *kinds = words
    # They share cores with the good ones, which are to measure the server and not the crowd.
    os.nice(15)
    trio.run(_crowd, int(port), int(ops_port), int(count), kinds)


if __name__ == "__main__":
    main(sys.argv[1:])
