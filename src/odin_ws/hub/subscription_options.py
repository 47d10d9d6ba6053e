"""The options of one subscription: at which rate its messages come, and which of them."""

from __future__ import annotations

from typing import Final

import attrs

from odin_ws.protocol.filters import Filter

__all__ = ["PLAIN", "SubscriptionOptions"]


@attrs.frozen
class SubscriptionOptions:
    """What a client asked for besides the pattern; equal for all who asked for the same."""

    max_rate: float | None = None
    """Messages per second and channel at most, of which the newest are sent; None for all."""

    where: Filter | None = None
    """Only records that meet it; None for all."""

    @classmethod
    def of(cls, max_rate: float | None, where: Filter | None = None) -> SubscriptionOptions:
        """The options that a command asks for: `PLAIN` where it asks for none."""
        return PLAIN if max_rate is None and where is None else cls(max_rate, where)


PLAIN: Final = SubscriptionOptions()
"""Every message of the pattern, at once."""
