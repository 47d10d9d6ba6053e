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

# Lower case, like all header names of a parsed request.
CANARY_HEADER: Final = "x-odin-canary"

# The canary's destination if the server listens on every interface.
_LOOPBACK: Final = "127.0.0.1"

_PURPOSE: Final = b"odin-ws canary"


@attrs.frozen
class CanaryCredential:
    """The credential of a canary, valid only for connections from this machine."""

    secret: Secret
    """256 random bits, shared only by the workers of one port."""
    address: Address
    """The host and port that the canary connects to."""
    addresses: frozenset[str]
    """Client addresses from which the server accepts the credential."""

    @classmethod
    def of(cls, secret: Secret, listening: Address) -> CanaryCredential:
        """Return the credential for a server that listens on `listening`.

        An empty host stands for every interface.
        """
        host = listening.host or _LOOPBACK
        return cls(secret, Address(host, listening.port), frozenset({host}))

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has the secret, in constant time."""
        shown = headers.get(CANARY_HEADER)
        return shown is not None and hmac.compare_digest(shown, self.secret.reveal())


def new_secret() -> Secret:
    """Return a new secret of 256 random bits."""
    return Secret(secrets.token_hex(32))


def derive_secret(shared: Secret) -> Secret:
    """Return the canary's secret, derived irreversibly from a secret that the processes share."""
    return Secret(hmac.digest(shared.reveal().encode(), _PURPOSE, "sha256").hex())
