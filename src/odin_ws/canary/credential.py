"""The credential by which the server knows its own canary: a header with a secret."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Final

import attrs

from odin_ws.address import Address
from odin_ws.settings import Secret

__all__ = ["CANARY_HEADER", "CanaryCredential", "derive_secret", "new_secret"]

# In lower case, as request heads are kept.
CANARY_HEADER: Final = "x-odin-canary"

# A canary of a server that listens on every interface connects here.
_LOOPBACK: Final = "127.0.0.1"

_PURPOSE: Final = b"odin-ws canary"


@attrs.frozen
class CanaryCredential:
    """The credential of a canary, valid only for connections from this machine."""

    secret: Secret
    """256 random bits, which no other process is given but the workers of one port."""
    address: Address
    """Where the canary connects to."""
    addresses: frozenset[str]
    """The addresses that a canary comes from; the credential of anybody else is not looked at."""

    @classmethod
    def of(cls, secret: Secret, listening: Address) -> CanaryCredential:
        """The credential for a server that listens there; an empty host is every interface."""
        host = listening.host or _LOOPBACK
        return cls(secret, Address(host, listening.port), frozenset({host}))

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has the secret, in constant time."""
        shown = headers.get(CANARY_HEADER)
        return shown is not None and hmac.compare_digest(shown, self.secret.reveal())


def new_secret() -> Secret:
    """A secret of 256 random bits."""
    return Secret(secrets.token_hex(32))


def derive_secret(shared: Secret) -> Secret:
    """Derive the canary's secret from another one that the processes share; not reversible."""
    return Secret(hmac.digest(shared.reveal().encode(), _PURPOSE, "sha256").hex())
