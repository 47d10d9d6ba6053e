"""The asyncio in which aiokafka runs, inside trio."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio_asyncio

__all__ = ["open_asyncio"]

log = structlog.get_logger("odin_ws.source")


@asynccontextmanager
async def open_asyncio() -> AsyncIterator[None]:
    """An asyncio loop for the length of the block; what fails in it unseen fails the block.

    But not what only reports itself: a start of aiokafka that is cancelled drops its connection,
    which closes itself when it is collected and calls that an error. trio-asyncio alone would end
    the process for it: whoever makes the server slow enough could have ended it.
    """
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_handle)
        yield


def _handle(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    if "exception" in context:
        loop.default_exception_handler(context)
    else:
        log.warning("aiokafka left something behind", what=context.get("message"))
