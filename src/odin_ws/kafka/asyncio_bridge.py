"""Runs aiokafka's asyncio inside Trio (trio-asyncio)."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import structlog
import trio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    IllegalArgumentError,
    IllegalStateError,
    KafkaConfigurationError,
    KafkaError,
)

from odin_ws.kafka.aiokafka_internals import MALFORMED_RESPONSE_ERRORS
from odin_ws.kafka.errors import UnexpectedResponse
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop

__all__ = [
    "BUGS",
    "KAFKA_FAILURES",
    "call_aiokafka",
    "open_asyncio",
    "running",
    "within",
]

log = structlog.get_logger("odin_ws.kafka")

KAFKA_FAILURES: Final = (KafkaError, OSError, trio.TooSlowError)
"""Errors that the broker or the network may cause in any call of an aiokafka client."""

BUGS: Final = (IllegalStateError, IllegalArgumentError, KafkaConfigurationError)
"""KafkaErrors that brokers do not cause: retrying would hide a bug or a wrong setting."""

# A clean leave is optional: a dead broker must not delay the exit of the process.
_STOP_SECONDS: Final = 3

# A name may have several addresses. A connect to an address without any response takes minutes to
# fail: the next address is tried in parallel after this time (RFC 8305 recommends 0.25 s).
_NEXT_ADDRESS_SECONDS: Final = 0.25

# Length limit for texts from a broker.
_MAX_SHOWN: Final = 100


@asynccontextmanager
async def open_asyncio() -> AsyncIterator[AbstractEventLoop]:
    """Run an asyncio loop for the block; unhandled errors of its tasks fail the block.

    Logs errors that asyncio only reports. When the start of an aiokafka client is cancelled, its
    connection closes itself on garbage collection and reports an error. trio-asyncio would raise it
    and end the process: a client that slows the server down enough could cause that.
    """
    async with open_loop() as loop:
        loop.set_exception_handler(_handle)
        vars(loop)["create_connection"] = partial(_create_connection, loop.create_connection)
        yield loop


async def _create_connection(
    create: Callable[..., Any],
    protocol_factory: Callable[[], Any],
    host: str,
    *args: Any,
    **options: Any,
) -> Any:
    """Connect as asyncio does, to several addresses of a name in parallel.

    An IP address needs no second attempt, and asyncio's parallel attempts leave the socket to the
    garbage collector if they are cancelled when one has just succeeded.
    """
    try:
        ip_address(host)
    except ValueError:
        options["happy_eyeballs_delay"] = _NEXT_ADDRESS_SECONDS
    return await create(protocol_factory, host, *args, **options)


async def call_aiokafka(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Await an asyncio function of aiokafka, or one that calls aiokafka."""
    return await aio_as_trio(function)(*args, **options)


@asynccontextmanager
async def running(make: Callable[[], Any], bound: float) -> AsyncIterator[Any]:
    """Start an aiokafka client for the block.

    Raises one of KAFKA_FAILURES if the client does not start within `bound` seconds.
    """

    async def make_in_asyncio() -> Any:
        # aiokafka's constructors need a running asyncio loop.
        return make()

    client = await call_aiokafka(make_in_asyncio)
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    try:
        with within(bound):
            await start(client)
        yield client
    finally:
        # Also after a failed start: the client has tasks of its own.
        with trio.move_on_after(_STOP_SECONDS, shield=True):
            try:
                await call_aiokafka(stop)
            except (asyncio.CancelledError, *KAFKA_FAILURES):
                # With the broker down, stop() raises these; there is nothing left to leave.
                pass


async def start(client: Any) -> None:
    """Start an aiokafka client. Raises UnexpectedResponse."""
    try:
        await call_aiokafka(client.start)
    except OSError:
        # Certificate errors among these are also a ValueError, which is handled below.
        raise
    except MALFORMED_RESPONSE_ERRORS as error:
        what = f"{type(error).__name__}: {error}"[:_MAX_SHOWN]
        raise UnexpectedResponse(f"malformed response: {what}") from error


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise trio.TooSlowError with a text for operators if the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise trio.TooSlowError(f"no response within {seconds:g} s") from None


def _handle(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    if "exception" in context:
        loop.default_exception_handler(context)
    else:
        log.warning("aiokafka background error", what=context.get("message"))
