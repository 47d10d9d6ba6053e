"""The asyncio in which aiokafka runs, inside trio, and calls into it."""

from __future__ import annotations

import traceback
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka.conn
import structlog

from odin_ws.kafka.errors import Nonsense
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop

__all__ = ["call_aiokafka", "open_asyncio"]

log = structlog.get_logger("odin_ws.kafka")

# What aiokafka fails with where a broker's answer, mostly to SASL, is not what it should be.
_NONSENSE: Final = (ValueError, KeyError, AttributeError, OverflowError, AssertionError)

# What aiokafka's connection calls of ours: it writes our requests, and asks for tokens.
_OURS: Final = "odin_ws."

# Of a broker's own words.
_MOST_SHOWN: Final = 100


@asynccontextmanager
async def open_asyncio() -> AsyncIterator[AbstractEventLoop]:
    """An asyncio loop for the length of the block; what fails in it unseen fails the block.

    But not what only reports itself: a start of aiokafka that is cancelled drops its connection,
    which closes itself when it is collected and calls that an error. trio-asyncio alone would end
    the process for it: whoever makes the server slow enough could have ended it.
    """
    async with open_loop() as loop:
        loop.set_exception_handler(_handle)
        yield loop


async def call_aiokafka(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Await an asyncio function that is aiokafka's, or calls it.

    Raises Nonsense, a KafkaConnectionError, where aiokafka stumbles over a broker's answer.
    """
    try:
        return await aio_as_trio(function)(*args, **options)
    except OSError:
        # Some of them are a ValueError too: that of a certificate.
        raise
    except _NONSENSE as error:
        if not _came_of_connecting(error):
            raise
        what = f"{type(error).__name__}: {error}"[:_MOST_SHOWN]
        raise Nonsense(f"its answer makes no sense: {what}") from error


def _came_of_connecting(error: BaseException) -> bool:
    """Whether it was raised below aiokafka's connection, by what is not ours; else it is a bug."""
    frames = traceback.walk_tb(error.__traceback__)
    modules = [str(frame.f_globals.get("__name__")) for frame, _line in frames]
    if aiokafka.conn.__name__ not in modules:
        return False
    below = modules[modules.index(aiokafka.conn.__name__) :]
    return not any(module.startswith(_OURS) for module in below)


def _handle(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    if "exception" in context:
        loop.default_exception_handler(context)
    else:
        log.warning("aiokafka left something behind", what=context.get("message"))
