"""Where a client's token comes from. Nothing here shows one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from odin_ws.client.errors import ConnectFailed, InvalidToken

__all__ = ["TokenSource", "Tokens"]

# A token, or what is asked for one each time.
TokenSource = str | Callable[[], Awaitable[str]]

# RFC 6750, 2.1: what may stand behind `Bearer`. A library would name the header that is wrong,
# with the token in it.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Tokens:
    """What `token` of `open_client` gives; None where there are no tokens."""

    __slots__ = ("_last", "_source")

    def __init__(self, source: TokenSource | None) -> None:
        self._source = source
        self._last = _checked(source) if isinstance(source, str) else None

    @property
    def renewable(self) -> bool:
        """Whether there is another one to be had."""
        return callable(self._source)

    async def current(self, seconds: float) -> str | None:
        """The token for a new connection. Raises ConnectFailed, also after so many seconds."""
        if callable(self._source):
            self._last = await _ask(self._source, seconds)
        return self._last

    async def another(self, seconds: float) -> str | None:
        """Another one than the last; None where none is to be had, yet."""
        last = self._last
        try:
            token = await self.current(seconds)
        except ConnectFailed:
            return None
        return None if token == last else token


async def _ask(source: Callable[[], Awaitable[str]], seconds: float) -> str:
    with trio.move_on_after(seconds):
        try:
            token = await source()
        except OSError as error:
            raise ConnectFailed(f"no token: {error}") from error
        return _checked(token)
    raise ConnectFailed(f"no token within {seconds:g} s")


def _checked(token: object) -> str:
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        why = "token: letters, digits and -._~+/ are allowed, = at its end; not nothing"
        raise InvalidToken(why, lasting=True)
    return token
