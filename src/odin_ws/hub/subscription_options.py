"""The options of one subscription: rate limit and filter."""

from __future__ import annotations

from typing import Final

import attrs

from odin_ws.protocol.filters import Filter

__all__ = ["PLAIN", "SubscriptionOptions"]


@attrs.frozen
class SubscriptionOptions:
    """The options of a subscription besides its pattern; equal options share one object."""

    max_rate: float | None = None
    """Limit of messages per second and channel, of which the newest are sent; None for all."""

    where: Filter | None = None
    """The condition that records must meet; None for all."""

    @classmethod
    def of(cls, max_rate: float | None, where: Filter | None = None) -> SubscriptionOptions:
        """Return the options of a command; `PLAIN` if it has none."""
        return PLAIN if max_rate is None and where is None else cls(max_rate, where)


PLAIN: Final = SubscriptionOptions()
"""Every message of the pattern, immediately."""
