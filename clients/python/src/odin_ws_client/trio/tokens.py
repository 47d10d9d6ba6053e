"""Calls the function that returns tokens, with a bound on its time."""

from __future__ import annotations

import trio

from odin_ws_client.core.credentials import Credentials, TokenFunction
from odin_ws_client.core.errors import ConnectFailed

__all__ = ["current_token", "fetch_token"]


async def current_token(credentials: Credentials, seconds: float) -> str | None:
    """The token for a new connection. Raises ConnectFailed, also after so many seconds."""
    if credentials.source is not None:
        credentials.hold(await _call(credentials.source, seconds))
    return credentials.current


async def fetch_token(credentials: Credentials, seconds: float) -> object:
    """Return the function's token; None if it has none at the moment."""
    assert credentials.source is not None
    try:
        return await _call(credentials.source, seconds)
    except ConnectFailed:
        return None


async def _call(source: TokenFunction, seconds: float) -> object:
    with trio.move_on_after(seconds):
        try:
            return await source()
        except OSError as error:
            raise ConnectFailed(f"no token: {error}") from error
    raise ConnectFailed(f"no token within {seconds:g} s")
