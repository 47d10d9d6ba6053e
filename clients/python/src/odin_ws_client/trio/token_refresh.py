"""Sends a new JWT on a live connection before the current one expires."""

from __future__ import annotations

import random
from typing import Final

import trio

from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.session import ProtocolSession, auth_command
from odin_ws_client.trio.connection import Connection
from odin_ws_client.trio.credentials import another_token

__all__ = ["TokenRefresh"]

# Between two attempts. Whoever has not two of it left will rather connect again, and resume.
_LEAST_SECONDS: Final = 1.0


class TokenRefresh:
    """Fetches tokens for one connection, in `nursery`, which has to end with it.

    `seconds`: for one token. An attempt is made within half of the time that is left: all tokens
    of a crowd may end together, and where it fails there is time for others. If none succeeds the
    server closes, and nothing is lost by that.
    """

    def __init__(
        self, tokens: Credentials, seconds: float, rng: random.Random, nursery: trio.Nursery
    ) -> None:
        self._tokens = tokens
        self._seconds = seconds
        self._rng = rng
        self._nursery = nursery
        self._fetching = False
        self._token: str | None = None

    async def attend(self, session: ProtocolSession, connection: Connection) -> None:
        """Do what is due: to be called each time that something was received, or might have been.

        Raises Ended.
        """
        if session.token_taken:
            session.token_taken = False
            self._tokens.taken()
        end, session.token_ends_at = session.token_ends_at, None
        if end is not None and self._tokens.source is not None and not self._fetching:
            self._fetching = True
            self._nursery.start_soon(self._fetch, end, session.token_retry_in, connection)
        if self._token is not None:
            token, self._token = self._token, None
            await connection.send(auth_command(token))

    async def _fetch(self, end: float, retry_in: float | None, connection: Connection) -> None:
        while (left := end - trio.current_time()) > 2 * _LEAST_SECONDS:
            pause = max(_LEAST_SECONDS, self._rng.uniform(0, left / 2))
            if retry_in is not None and retry_in < left:
                # The server knows when it can verify the token, and has spread its clients.
                pause = max(_LEAST_SECONDS, retry_in)
            retry_in = None
            await trio.sleep(pause)
            # The same one would only be told to be ending again.
            self._token = await another_token(self._tokens, self._seconds)
            if self._token is not None:
                connection.wake()
                break
        self._fetching = False
