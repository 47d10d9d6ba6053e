"""OAuth tokens for SASL OAUTHBEARER: from a file or an authorization server.

aiokafka requests a token in asyncio whenever it connects.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import attrs
import orjson
import trio
from aiokafka.abc import AbstractTokenProvider

from odin_ws.http_client import Page, Unreachable, WebAddress
from odin_ws.kafka.errors import AuthenticationFailed
from odin_ws.kafka.trio_asyncio_compat import trio_as_aio
from odin_ws.settings import Secret
from odin_ws.settings.secrets import read_secret_file

__all__ = ["OAuthTokenEndpoint", "OAuthTokenFile", "OAuthTokenSource"]

# A token is replaced this long before it expires, or a quarter of its lifetime if that is shorter.
_EARLY_SECONDS: Final = 30.0

# A failure is reused for this time: aiokafka tries every broker in turn.
_FAILURE_SECONDS: Final = 1.0

# The error codes of a token response (RFC 6749, 5.2). No other text of the server is shown: it may
# repeat the secret of the request.
_ERRORS: Final = {
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
}


class OAuthTokenSource(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """A source of tokens; `origin` describes it after the words "the token"."""

    origin: str

    def forget(self) -> None:
        """Drop the cached token, which a broker has rejected."""


class OAuthTokenFile(OAuthTokenSource):
    """Reads the token from a file for each connection; another program may renew the file.

    Raises AuthenticationFailed if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.origin = f"in {path}"
        self._path = path

    async def token(self) -> str:
        """See AbstractTokenProvider; in asyncio."""
        loop = asyncio.get_running_loop()
        try:
            secret = await loop.run_in_executor(None, read_secret_file, self._path)
        except ValueError as error:
            raise AuthenticationFailed(
                f"KAFKA_SASL_TOKEN_FILE={self._path}: the file {error}"
            ) from None
        token = secret.reveal().strip()
        if not _is_token(token):
            raise AuthenticationFailed(
                f"KAFKA_SASL_TOKEN_FILE={self._path}: the file contains no token"
            )
        return token


class OAuthTokenEndpoint(OAuthTokenSource):
    """Fetches a token with the client credentials grant (RFC 6749, 4.4); reuses it until it ends.

    Raises AuthenticationFailed if there is none; `address` has the timeout.
    """

    def __init__(self, address: WebAddress, client_id: str, secret: Secret, scope: str) -> None:
        self.origin = f"of {address.url}"
        self._address = address
        # Encoded as in a form (RFC 6749, 2.3.1).
        self._auth = (_quoted(client_id), _quoted(secret.reveal()))
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._token: Secret | None = None
        self._until = -math.inf
        self._failure = ""
        self._failed_until = -math.inf
        # Connections that are opened together need one token.
        self._fetching = trio.Lock()

    async def token(self) -> str:
        """See AbstractTokenProvider; in asyncio."""
        token: Secret = await trio_as_aio(self._current)()
        return token.reveal()

    def forget(self) -> None:
        """See OAuthTokenSource."""
        self._token = None

    async def _current(self) -> Secret:
        async with self._fetching:
            now = trio.current_time()
            if self._token is not None and now < self._until:
                return self._token
            if now < self._failed_until:
                raise AuthenticationFailed(self._failure)
            try:
                grant = _read(await self._address.post(self._form, self._auth))
            except Unreachable as error:
                self._failure = f"KAFKA_SASL_TOKEN_URL={self._address.url}: {error}"
                self._failed_until = trio.current_time() + _FAILURE_SECONDS
                raise AuthenticationFailed(self._failure) from None
            self._token, self._until = grant.token, now + grant.usable
            return grant.token


@attrs.frozen
class _AccessToken:
    """A token and the seconds for which it is used."""

    token: Secret
    usable: float


def _read(page: Page) -> _AccessToken:
    """Parse a token response. Raises Unreachable, without anything secret in its text."""
    try:
        response = orjson.loads(page.body)
    except orjson.JSONDecodeError:
        page.content()  # raises if the status is the reason
        raise Unreachable("the response is not JSON") from None
    if not isinstance(response, dict):
        response = {}
    error = response.get("error")
    if isinstance(error, str) and error in _ERRORS:
        raise Unreachable(f"status {page.status}, {error}")
    page.content()
    token = response.get("access_token")
    if not isinstance(token, str) or not token:
        raise Unreachable("the response has no access_token")
    if not _is_token(token):
        raise Unreachable("the access_token has invalid characters")
    kind = response.get("token_type", "bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise Unreachable("the token_type is not Bearer")
    return _AccessToken(Secret(token), _usable(response.get("expires_in")))


def _usable(expires: Any) -> float:
    """Return for how many seconds to use a token with this expires_in; 0 if there is none."""
    if expires is None:
        return 0.0
    try:
        # Some servers send a string.
        seconds = float(expires)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(expires, bool) or not 0 <= seconds < math.inf:
        raise Unreachable("the expires_in is not a number of seconds")
    return seconds - min(_EARLY_SECONDS, seconds / 4)


def _is_token(text: str) -> bool:
    # Other characters would end the field that contains the token.
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _quoted(text: str) -> str:
    return quote_plus(text, safe="")
