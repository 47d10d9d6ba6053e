"""A authenticator that asks nobody."""

from __future__ import annotations

from odin_ws.auth.grants import full_grant
from odin_ws.auth.origins import Origins
from odin_ws.connection.token_expiry import Expiry
from odin_ws.handshake.authenticator import Authenticator, AuthPolicy
from odin_ws.hub import Hub

__all__ = ["open_authenticator"]


def open_authenticator(hub: Hub) -> Authenticator:
    """Everybody comes in, and may read everything."""
    rules = AuthPolicy(
        full_grant(hub.stream.catalogue), Origins("*"), max_per_user=0, token_in_query=False
    )
    return Authenticator(None, rules, Expiry(notice=30))
