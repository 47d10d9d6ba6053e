"""Commands of an application on a live connection, each in a task of its own."""

from __future__ import annotations

from typing import Any

import trio

from odin_ws_client import ClientClosed, QueueFull, Subscribed, SubscriptionRejected
from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import START, FakeServer, Visit, take

__all__ = ["BALANCES", "SentRequest", "begin", "send_request"]

BALANCES = {"odin.balances": {"0": 7}}


class SentRequest:
    """A command of the application, carried out in a task of its own."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self._done = trio.Event()

    async def run(self, command: Any, *names: str, **options: Any) -> None:
        """Wait for the answer."""
        try:
            self.result = await command(*names, **options)
        except (SubscriptionRejected, ClientClosed, QueueFull) as error:
            self.error = error
        self._done.set()

    async def lingering(self) -> Any:
        """Its answer; raises its error."""
        with trio.fail_after(60):
            await self._done.wait()
        if self.error is not None:
            raise self.error
        return self.result


def send_request(nursery: trio.Nursery, command: Any, *names: str, **options: Any) -> SentRequest:
    """Begin a command."""
    asked = SentRequest()
    nursery.start_soon(lambda: asked.run(command, *names, **options))
    return asked


async def begin(server: FakeServer, client: BaseClient) -> Visit:
    """The first subscription is live."""
    attempt = await server.attempt()
    await attempt.accept(START, categories={"trade": "odin.trades"})
    await take(client, Subscribed)
    return attempt
