"""Calls the application's token function with a timeout."""

from __future__ import annotations

import trio

from odin_ws_client.core.credentials import Credentials, TokenFunction
from odin_ws_client.core.errors import ConnectFailed

__all__ = ["current_token", "fetch_token"]


async def current_token(credentials: Credentials, seconds: float) -> str | None:
    """Return the token for a new connection; None if the client has no credentials.

    Raises:
        ConnectFailed: if the token function fails, or has not returned after `seconds`; as
            InvalidCredential if the token has characters that cannot be sent.
    """
    if credentials.source is not None:
        credentials.hold(await _call(credentials.source, seconds))
    return credentials.current


async def fetch_token(credentials: Credentials, seconds: float) -> object:
    """Call the token function; return its token, or None if the call fails or times out."""
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
