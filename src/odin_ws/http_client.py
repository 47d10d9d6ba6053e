"""An HTTP client with limits on time and size, for JWKS and OAuth."""

from __future__ import annotations

import os
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from odin_ws.address import is_loopback

if TYPE_CHECKING:
    import httpx

__all__ = ["Page", "Unreachable", "WebAddress"]

# Responses are requested uncompressed, so they cannot grow beyond the limit.
_PLAIN: Final = {"Accept-Encoding": "identity"}

# Environment variables with certificates; the first that is set counts.
_AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Unreachable(Exception):
    """There is no usable response; the message says why."""


@attrs.frozen
class Page:
    """A response of any status."""

    status: int
    body: bytes

    def content(self) -> bytes:
        """Return the body of a success.

        Raises Unreachable, also for redirects: they could lead anywhere.
        """
        if not HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            raise Unreachable(f"status {self.status}")
        return self.body


def _trusted() -> ssl.SSLContext:
    """Return a TLS context: httpx and OpenSSL have different defaults for authorities."""
    import httpx  # noqa: PLC0415 -- as below

    try:
        return httpx.create_ssl_context()
    except OSError as error:
        name = next(name for name in _AUTHORITIES if os.environ.get(name))
        raise Unreachable(f"{name}={os.environ[name]}: no certificates (PEM): {error}") from error


class WebAddress:
    """A URL with limits: responses of at most `maximum` bytes, each within `seconds`.

    Raises Unreachable if the environment names certificates that cannot be read.
    """

    def __init__(self, url: str, *, seconds: float, maximum: int) -> None:
        # Imported here: a server without a token or key URL starts 40 ms sooner.
        import httpx  # noqa: PLC0415

        self.url = url
        self._httpx = httpx
        self._seconds = seconds
        self._maximum = maximum
        # Created once: reading the certificates of all authorities takes tens of milliseconds.
        self._context = _trusted()
        # Proxies of the environment are for other machines, not for loopback.
        self._trust_env = not is_loopback(urlsplit(url).hostname or "")

    async def get(self) -> Page:
        """Request the page. Raises Unreachable."""
        return await self._request("GET")

    async def post(self, form: dict[str, str], auth: tuple[str, str]) -> Page:
        """Send a form with Basic authentication (name, password). Raises Unreachable."""
        return await self._request("POST", data=form, auth=auth)

    def _client(self) -> httpx.AsyncClient:
        try:
            return self._httpx.AsyncClient(
                verify=self._context,
                trust_env=self._trust_env,
                timeout=None,
            )
        except (ValueError, ImportError) as error:
            # A proxy of the environment, of an unknown kind or one that is not installed.
            raise Unreachable(f"its proxy cannot be used: {error}") from None

    async def _request(self, method: str, **what: Any) -> Page:
        status, body = 0, b""
        try:
            with trio.move_on_after(self._seconds) as scope:
                async with (
                    self._client() as client,
                    client.stream(method, self.url, headers=_PLAIN, **what) as response,
                ):
                    status = response.status_code
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > self._maximum:
                            # Not a `break`: only a cancelled read closes httpx's generators.
                            scope.cancel()
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None
        if len(body) > self._maximum:
            raise Unreachable(f"more than {self._maximum} bytes")
        if scope.cancelled_caught:
            raise Unreachable(f"no response within {self._seconds:g} s")
        return Page(status, body)
