"""The client's JWT: a fixed one, or a function that returns one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from odin_ws.client.errors import ConnectFailed, InvalidCredential

__all__ = ["CredentialSource", "Credentials"]

# A token, or what is asked for one each time.
CredentialSource = str | Callable[[], Awaitable[str]]

# RFC 6750, 2.1: what may stand behind `Bearer`. A library would name the header that is wrong,
# with the token in it.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Credentials:
    """What `token` of `open_client` gives; None where there are no tokens."""

    __slots__ = ("_held", "_offered", "_source")

    def __init__(self, source: CredentialSource | None) -> None:
        self._source = source
        # What the connection stands on, and what may be in its place once the server has taken it.
        self._held = _checked(source, permanent=True) if isinstance(source, str) else None
        self._offered = self._held

    @property
    def renewable(self) -> bool:
        """Whether there is another one to be had."""
        return callable(self._source)

    async def current(self, seconds: float) -> str | None:
        """The token for a new connection. Raises ConnectFailed, also after so many seconds."""
        if callable(self._source):
            self._held = self._offered = await _ask(self._source, seconds)
        return self._held

    async def another(self, seconds: float) -> str | None:
        """Another one than the connection's; None where none is to be had, yet.

        One that the server has rejected may come again: it may take it a little later.
        """
        if not callable(self._source):
            return None
        try:
            self._offered = await _ask(self._source, seconds)
        except ConnectFailed:
            return None
        return None if self._offered == self._held else self._offered

    def taken(self) -> None:
        """The server has taken the one that was offered: the connection stands on that."""
        self._held = self._offered


async def _ask(source: Callable[[], Awaitable[str]], seconds: float) -> str:
    with trio.move_on_after(seconds):
        try:
            token = await source()
        except OSError as error:
            raise ConnectFailed(f"no token: {error}") from error
        # A file, say, that is being written: the next time it may be a good one.
        return _checked(token, permanent=False)
    raise ConnectFailed(f"no token within {seconds:g} s")


def _checked(token: object, *, permanent: bool) -> str:
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        why = "token: letters, digits and -._~+/ are allowed, = at its end; not nothing"
        raise InvalidCredential(why, permanent=permanent)
    return token
