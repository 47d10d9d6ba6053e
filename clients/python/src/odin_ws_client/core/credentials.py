"""The client's JWT: a fixed one, or a function that returns one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from odin_ws_client.core.errors import InvalidCredential

__all__ = ["CredentialSource", "Credentials", "TokenFunction"]

TokenFunction = Callable[[], Awaitable[str]]

# A token, or a function that is called for one before each connection.
CredentialSource = str | TokenFunction

# RFC 6750, 2.1: what may stand behind `Bearer`. A library would name the header that is wrong,
# with the token in it.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Credentials:
    """The source of tokens (`token` of `open_client`), and the token of the current connection.

    Raises InvalidCredential for a fixed token that cannot be sent.
    """

    __slots__ = ("_offered", "current", "source")

    def __init__(self, source: CredentialSource | None) -> None:
        # The function that returns tokens; None for a fixed one, or none.
        self.source: TokenFunction | None = None
        # What the connection stands on; None where there are no tokens.
        self.current: str | None = None
        if isinstance(source, str):
            self.current = _checked(source, permanent=True)
        else:
            self.source = source
        # What may be in its place once the server has taken it.
        self._offered = self.current

    def hold(self, token: object) -> None:
        """A new connection begins with what the function returned. Raises InvalidCredential."""
        # A file, say, that is being written: the next time it may be a good one.
        self.current = self._offered = _checked(token, permanent=False)

    def offer(self, token: object) -> str | None:
        """Return the token to send, if the function returned another than the connection's.

        One that the server has rejected may come again: it may take it a little later.
        Raises InvalidCredential.
        """
        self._offered = _checked(token, permanent=False)
        return None if self._offered == self.current else self._offered

    def taken(self) -> None:
        """The server has taken the one that was offered: the connection stands on that."""
        self.current = self._offered


def _checked(token: object, *, permanent: bool) -> str:
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        why = "token: letters, digits and -._~+/ are allowed, = at its end; not nothing"
        raise InvalidCredential(why, permanent=permanent)
    return token
