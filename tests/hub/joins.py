"""Clients that have subscribed, and one that acts in the middle of a cycle."""

from __future__ import annotations

from collections.abc import Callable

from odin_ws.hub import Hub
from tests.hub.hub_driver import Client

__all__ = ["Interrupting", "join"]


class Interrupting(Client):
    """A client whose first write makes something else happen, in the middle of a cycle.

    Whoever comes after it in the cycle has not been written to: those of the same pattern who
    joined later, and those who have only less exact ones.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self._action: Callable[[], None] | None = action

    def received(self) -> None:
        """Do it, once."""
        action, self._action = self._action, None
        if action is not None:
            action()


def join(hub: Hub, *patterns: str, client: Client | None = None) -> Client:
    """A client that has subscribed to some patterns."""
    client = client or Client()
    hub.subscribe(client.subscriber, patterns)
    return client
