"""The client for Trio."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import trio

from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.client import BaseClient
from odin_ws_client.core.credentials import Credentials, CredentialSource
from odin_ws_client.core.errors import ClientError
from odin_ws_client.core.items import Ids
from odin_ws_client.core.offset_tracker import GivenPositions, OffsetTracker
from odin_ws_client.core.reconnector import Reconnector
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.session import Counts
from odin_ws_client.core.subscription import Subscription
from odin_ws_client.core.subscription_set import SubscriptionSet
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.url import read_url
from odin_ws_client.trio.connection import Connect, dial
from odin_ws_client.trio.runner import Runner

__all__ = ["Client", "open_client"]


class Client(BaseClient):
    """Iterate over it for every Item, or over `messages()`; get it from `open_client`.

    The iteration ends where the client will not come back; with a ClientError if that is not as it
    should be. Waiting can be cancelled, nothing is lost by that.
    """


def open_client(  # noqa: PLR0913 -- each has its usual value
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
    """Follow `subscriptions` at `url` (ws: or wss:) for the length of the block.

    docs/client.md has what each option does. Raises InvalidUrl, InvalidCredential.

    Args:
        url: the server's URL.
        subscriptions: one or several subscriptions; `Client.subscribe` adds others.
        token: the JWT for a server with authentication; or an async function that returns one, and
            raises OSError or ConnectFailed if it has none at the moment.
        positions: where to resume: an earlier value of `Client.positions`.
        ids: the value of `Client.ids` at the same time.
        reconnect: reconnect after each disconnect or failed connect that is not final.
        connect_seconds: limit for dialling and handshake together, and for `token` separately.
        silence_seconds: seconds without a byte before the client sends a heartbeat.
        backoff_base: upper bound of the wait before the first attempt, seconds.
        backoff_cap: upper bound of every wait, seconds.
        connect: replaces dialling: an async function that returns a `trio.abc.Stream`.
        tls: the TLS context for wss:; by default Python's.
        rng: the random numbers of the jitter.
    """
    address = read_url(url)
    given = [subscriptions] if isinstance(subscriptions, Subscription) else subscriptions
    requests = Requests()
    reconnector = Reconnector(
        address=address,
        credentials=Credentials(token),
        subscriptions=SubscriptionSet(given, OffsetTracker(positions, ids)),
        requests=requests,
        reconnect=reconnect,
        timing=Timing(connect_seconds, silence_seconds, backoff_base, backoff_cap),
        rng=rng or random.Random(),  # noqa: S311 -- jitter, not a secret
        counts=Counts(),
    )
    queue = BatchQueue(trio.Event, requests.overflow)
    runner = Runner(connect or partial(dial, address, tls), reconnector, queue)
    return _following(Client(queue, reconnector), runner)


@asynccontextmanager
async def _following(client: Client, runner: Runner) -> AsyncIterator[Client]:
    """Run the client beside the block.

    The nursery does not see an exception of the block, so the exception is not wrapped in a group.
    """
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_run, client, runner)
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()
            # Only a bug in the runner is raised here; it has cancelled the block, and says why.
            await stack.aclose()


async def _run(client: Client, runner: Runner) -> None:
    try:
        await runner.run()
    except ClientError as error:
        client.error = error
    finally:
        runner.close(client.error)
