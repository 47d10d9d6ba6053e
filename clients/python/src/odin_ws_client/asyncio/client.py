"""The client for asyncio."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from odin_ws_client.asyncio.connection import Connect, dial
from odin_ws_client.asyncio.runner import Runner
from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.client import BaseClient
from odin_ws_client.core.credentials import Credentials, CredentialSource
from odin_ws_client.core.errors import ClientError
from odin_ws_client.core.items import Ids
from odin_ws_client.core.offset_tracker import GivenPositions, OffsetTracker
from odin_ws_client.core.reconnector import Reconnector
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.subscription import Subscription
from odin_ws_client.core.subscription_set import SubscriptionSet
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.url import read_url

__all__ = ["Client", "open_client"]


class Client(BaseClient):
    """An async iterator over the Items of a connection that reconnects; made by `open_client`.

    `messages()` iterates over the messages only. The iteration ends when the client will not
    reconnect, and raises a ClientError if the cause is a failure. A cancelled wait loses no item.
    """


def open_client(  # noqa: PLR0913 -- each has a default
    url: str,
    subscriptions: Subscription | Iterable[Subscription],
    *,
    token: CredentialSource | None = None,
    positions: GivenPositions | None = None,
    ids: Ids | None = None,
    reconnect: bool = True,
    connect_seconds: float = 10,
    silence_seconds: float = 10,
    backoff_base: float = 0.2,
    backoff_cap: float = 15,
    connect: Connect | None = None,
    tls: ssl.SSLContext | None = None,
    rng: random.Random | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Return a context manager: a client of `url` with `subscriptions`, which runs in its block.

    docs/client.md describes each option.

    Args:
        url: the server's URL (ws: or wss:).
        subscriptions: the first subscriptions; `Client.subscribe` adds more.
        token: the JWT for a server with authentication; or an async function that returns the JWT,
            and raises OSError or ConnectFailed if no JWT can be had at the moment.
        positions: the positions to resume from: an earlier value of `Client.positions`.
        ids: the value of `Client.ids` at the same time as `positions`.
        reconnect: reconnect after each disconnect or failed connect that is not final.
        connect_seconds: limit for dialling and handshake together, and for `token` separately.
        silence_seconds: seconds without a byte before the client sends a heartbeat.
        backoff_base: upper bound of the wait before the first attempt, seconds.
        backoff_cap: upper bound of every wait, seconds.
        connect: replaces dialling: an async function that returns a pair of
            `asyncio.StreamReader` and `asyncio.StreamWriter`.
        tls: the TLS context for wss:; by default Python's.
        rng: the random numbers of the jitter.

    Raises:
        InvalidUrl: if `url` is not a WebSocket URL.
        InvalidCredential: if `token` is a string with characters that cannot be sent.
    """
    reconnector = Reconnector(
        address=read_url(url),
        credentials=Credentials(token),
        subscriptions=SubscriptionSet(subscriptions, OffsetTracker(positions, ids)),
        requests=Requests(),
        reconnect=reconnect,
        timing=Timing(connect_seconds, silence_seconds, backoff_base, backoff_cap),
        rng=rng or random.Random(),  # noqa: S311 -- jitter, not a secret
    )
    queue = BatchQueue(asyncio.Event, reconnector.requests.overflow)
    runner = Runner(connect or partial(dial, reconnector.address, tls), reconnector, queue)
    return _following(Client(queue, reconnector), runner)


@asynccontextmanager
async def _following(client: Client, runner: Runner) -> AsyncIterator[Client]:
    """Run `runner` in the background for the length of the block.

    The task group does not see an exception of the block, so the exception is not wrapped in a
    group.
    """
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        task = group.create_task(_run(client, runner))
        try:
            yield client
        finally:
            task.cancel()
            # Raises only if the runner has a bug: the bug cancelled the block and is its cause.
            await stack.aclose()


async def _run(client: Client, runner: Runner) -> None:
    try:
        await runner.run()
    except ClientError as error:
        client.error = error
    finally:
        runner.close(client.error)
