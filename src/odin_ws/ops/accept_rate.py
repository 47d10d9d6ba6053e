"""Rates of the ops port: which accepted connection is served in full."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from odin_ws.handshake.forwarded import limit_key
from odin_ws.token_bucket import TokenBucket

__all__ = ["AcceptRate"]

# A rate is remembered for so many addresses; with more, the one that was quiet for longest begins
# anew. The rate of all together still holds.
_MAX_ADDRESSES: Final = 1024


class AcceptRate:
    """A rate of all connections together, and one of each address.

    An address over its own rate uses nothing of the common one. Of IPv6 a /64 is an address.

    Args:
        rate: connections per second of all.
        per_address: connections per second of one address.
        burst: connections at once, of all and of each.
    """

    def __init__(self, rate: float, per_address: float, burst: float) -> None:
        # It starts full, so the time does not matter.
        self._all = TokenBucket(rate, burst, 0.0)
        self._per_address = per_address
        self._burst = burst
        # The address that was longest not charged comes first.
        self._addresses: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: str, now: float) -> bool:
        """Count a connection; returns whether it is within both rates."""
        key = limit_key(address)
        own = self._addresses.get(key)
        if own is None:
            own = self._addresses[key] = TokenBucket(self._per_address, self._burst, now)
            if len(self._addresses) > _MAX_ADDRESSES:
                self._addresses.popitem(last=False)
        self._addresses.move_to_end(key)
        if not own.available(now) or not self._all.available(now):
            return False
        own.spend(1)
        self._all.spend(1)
        return True
