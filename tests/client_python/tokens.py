"""Tokens given to a client one after the other, and those that a server receives."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import START, FakeServer, Visit

__all__ = ["Given", "calm", "expire", "renewed", "visit_with"]


class Given:
    """Returns, or raises, each of these in turn, and then the last forever."""

    def __init__(self, each: Iterable[str | Exception]) -> None:
        self.calls = 0
        self._each = list(each)

    async def __call__(self) -> str:
        """What the client awaits."""
        one = self._each[min(self.calls, len(self._each) - 1)]
        self.calls += 1
        if isinstance(one, Exception):
            raise one
        return one


async def visit_with(server: FakeServer) -> tuple[str | None, Visit]:
    """The Authorization header of the next connection, which is subscribed or resumes."""
    request, stream = await server.request()
    headers = {name.lower(): value for name, value in request.headers}
    attempt = Visit(await request.accept(), stream)
    await attempt.accept(START)
    given = headers.get(b"authorization")
    return None if given is None else given.decode(), attempt


def calm(server: FakeServer, **options: Any) -> AbstractAsyncContextManager[BaseClient]:
    """A client that asks for no signs of life."""
    return server.follow(silence_seconds=1000, **options)


async def expire(attempt: Visit, seconds: float = 30) -> None:
    """Say that the token is about to end."""
    await attempt.send_item(type="auth", status="expiring", expires_in_ms=1000 * seconds)


async def renewed(attempt: Visit) -> str:
    """The token of the next command, which has to be an `auth`."""
    command = await attempt.command()
    assert command["type"] == "auth"
    assert command["data"].keys() == {"token"}
    return str(command["data"]["token"])
