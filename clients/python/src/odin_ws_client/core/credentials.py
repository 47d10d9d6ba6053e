"""The client's JWT: a fixed string, or the result of the application's token function."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from odin_ws_client.core.errors import InvalidCredential

__all__ = ["CredentialSource", "Credentials", "TokenFunction"]

TokenFunction = Callable[[], Awaitable[str]]

# A token, or a function that returns a token before each connection and each expiry.
CredentialSource = str | TokenFunction

# The token syntax after `Bearer`: RFC 6750, 2.1. Checked here, because the error of a library would
# show the invalid header, and so the token.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Credentials:
    """The source of tokens (`token` of `open_client`), and the token of the current connection.

    Raises:
        InvalidCredential: if a fixed token has characters that cannot be sent.
    """

    __slots__ = ("_offered", "current", "source")

    def __init__(self, source: CredentialSource | None) -> None:
        self.source: TokenFunction | None = None
        """The application's token function; None with a fixed token or without tokens."""
        self.current: str | None = None
        """The token of the connection; None without tokens."""
        if isinstance(source, str):
            self.current = _checked(source, permanent=True)
        else:
            self.source = source
        # The token last offered: becomes `current` when the server accepts the token.
        self._offered = self.current

    def hold(self, token: object) -> None:
        """Set the token of a new connection to the token function's result.

        Raises:
            InvalidCredential: if the token has characters that cannot be sent.
        """
        # Not permanent: the function may have read a file that is just being written.
        self.current = self._offered = _checked(token, permanent=False)

    def offer(self, token: object) -> str | None:
        """Return the token function's result if it is not the connection's token, else None.

        A rejected token is returned again too: the server may accept the token a little later.

        Raises:
            InvalidCredential: if the token has characters that cannot be sent.
        """
        self._offered = _checked(token, permanent=False)
        return None if self._offered == self.current else self._offered

    def taken(self) -> None:
        """Make the offered token the current token, because the server has accepted it."""
        self.current = self._offered


def _checked(token: object, *, permanent: bool) -> str:
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        why = "token: must be one or more letters, digits and -._~+/, then optional ="
        raise InvalidCredential(why, permanent=permanent)
    return token
