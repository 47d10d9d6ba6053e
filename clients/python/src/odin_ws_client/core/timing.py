"""The time limits of the client."""

from __future__ import annotations

import random

import attrs

from odin_ws_client.core.backoff import Backoff

__all__ = ["Timing"]


@attrs.frozen
class Timing:
    """Time limits in seconds; the options of `open_client`."""

    connect: float
    """The limit for dialling and handshake together, and for the token function."""
    silence: float
    """The time without a byte before a heartbeat, and then before the end of the connection."""
    backoff_base: float
    """Upper bound of the first wait."""
    backoff_cap: float
    """Upper bound of every wait."""

    def backoff(self, rng: random.Random) -> Backoff:
        """Return a back-off at its first wait."""
        return Backoff(self.backoff_base, self.backoff_cap, rng)
