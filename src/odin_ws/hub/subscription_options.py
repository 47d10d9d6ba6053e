"""The options of one subscription: at which rate its messages come."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["PLAIN", "SubscriptionOptions"]


@attrs.frozen
class SubscriptionOptions:
    """What a client asked for besides the pattern; equal for all who asked for the same."""

    max_rate: float | None = None
    """Messages per second and channel at most, of which the newest are sent; None for all."""

    @classmethod
    def of(cls, max_rate: float | None) -> SubscriptionOptions:
        """The options that a command asks for: `PLAIN` where it asks for none."""
        return PLAIN if max_rate is None else cls(max_rate)


PLAIN: Final = SubscriptionOptions()
"""Every message of the pattern, at once."""
