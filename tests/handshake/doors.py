"""A doorkeeper that asks nobody."""

from __future__ import annotations

from odin_ws.auth.grants import full_grant
from odin_ws.auth.origins import Origins
from odin_ws.connection.token_expiry import Expiry
from odin_ws.handshake.authenticator import Doorkeeper, DoorRules
from odin_ws.hub import Hub

__all__ = ["open_door"]


def open_door(hub: Hub) -> Doorkeeper:
    """Everybody comes in, and may read everything."""
    rules = DoorRules(full_grant(hub.intake.catalogue), Origins("*"), per_user=0, in_query=False)
    return Doorkeeper(None, rules, Expiry(hub, notice=30))
