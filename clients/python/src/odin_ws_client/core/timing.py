"""The seconds after which the client does something."""

from __future__ import annotations

import random

import attrs

from odin_ws_client.core.backoff import Backoff

__all__ = ["Timing"]


@attrs.frozen
class Timing:
    """Seconds; docs/client.md says under the same names what each is for."""

    connect: float
    silence: float
    backoff_base: float
    backoff_cap: float

    def backoff(self, rng: random.Random) -> Backoff:
        """One that has not waited yet."""
        return Backoff(self.backoff_base, self.backoff_cap, rng)
