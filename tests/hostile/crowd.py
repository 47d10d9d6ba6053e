"""`python -m tests.hostile.crowd PORT OPS_PORT COUNT [KIND …]`: hostile clients, until killed."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from itertools import cycle
from typing import Final

import trio

from odin_ws.testing.ports import LOOPBACK
from tests.hostile.kinds import Visit
from tests.hostile.registry import AT_ONCE, KINDS, ON_OPS_PORT

__all__ = ["main"]

# A rejected client reconnects after this time, give or take half of it: 2,000 clients make some
# hundreds of visits a second.
_AGAIN_SECONDS: Final = 5.0
_AT_ONCE_SECONDS: Final = 1.0

# A visit ends after this time, so that each limit is reached again and again.
_VISIT_SECONDS: Final = 20.0


async def _visit_repeatedly(port: int, visit: Visit) -> None:
    pause = _AT_ONCE_SECONDS if visit in AT_ONCE else _AGAIN_SECONDS
    await trio.sleep(random.uniform(0, _AGAIN_SECONDS))  # noqa: S311 -- no secret
    while True:
        with trio.move_on_after(_VISIT_SECONDS):
            try:
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    await visit(stream)
            except* (OSError, trio.BrokenResourceError):
                pass  # the server rejects hostile clients
        await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret


async def _crowd(port: int, ops_port: int, count: int, kinds: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        for _, kind in zip(range(count), cycle(kinds or KINDS)):
            visit = KINDS[kind]
            nursery.start_soon(_visit_repeatedly, ops_port if visit in ON_OPS_PORT else port, visit)


def main(arguments: Sequence[str]) -> None:
    """Run them until killed."""
    port, ops_port, count, *kinds = arguments
    # The crowd shares cores with the good clients, whose measurements must not suffer from it.
    os.nice(15)
    trio.run(_crowd, int(port), int(ops_port), int(count), kinds)


if __name__ == "__main__":
    main(sys.argv[1:])
