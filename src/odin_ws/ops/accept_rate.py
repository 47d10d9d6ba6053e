"""Rate limits of the ops port: which accepted connections are served in full."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from odin_ws.handshake.forwarded import limit_key
from odin_ws.token_bucket import TokenBucket

__all__ = ["AcceptRate"]

# Maximum number of addresses with a rate of their own; beyond it, the rate of the longest idle
# address is deleted. The common rate still applies.
_MAX_ADDRESSES: Final = 1024


class AcceptRate:
    """A rate limit of all connections together, and a limit of each address.

    A connection over its address's rate does not count in the common rate. An IPv6 /64 network is
    one address.

    Args:
        rate: connections per second of all addresses.
        per_address: connections per second of one address.
        burst: connections at once, of all addresses and of each.
    """

    def __init__(self, rate: float, per_address: float, burst: float) -> None:
        # The bucket starts full, so the start time has no effect.
        self._all = TokenBucket(rate, burst, 0.0)
        self._per_address = per_address
        self._burst = burst
        # The longest idle address is first.
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
