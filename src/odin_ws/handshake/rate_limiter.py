"""Rate limits and connection limits, in all and per client address: 429."""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Final, Self

import attrs
import structlog
import trio

from odin_ws.handshake.forwarded import ClientAddress, is_public, limit_key
from odin_ws.handshake.request import HTTPRejection
from odin_ws.handshake.retry_after import retry_after
from odin_ws.lease import Lease
from odin_ws.token_bucket import TokenBucket

__all__ = ["RATE_LIMIT_REJECTIONS", "PerAddressLimit", "RateLimiter", "RateLimits"]

log = structlog.get_logger("odin_ws.connection")

# The labels of rejections here (429).
RATE_LIMIT_REJECTIONS: Final = ("connect_rate", "connect_rate_per_ip", "max_connections_per_ip")

# Bursts of this many seconds' worth of a rate: an office that reconnects after a power cut.
_BURST_SECONDS: Final = 5.0

# Limit of addresses with a remembered rate, about 5 MB. Beyond it the rates of the addresses that
# were quiet longest start anew; the rate of all addresses together still applies.
_MAX_ADDRESSES: Final = 16_384

# Logged once: a limit applies to a proxy that does not name its clients.
_WARN_SECONDS: Final = 30.0
_HINT: Final = (
    "a proxy or load balancer must be in WS_TRUSTED_PROXIES and name its clients in the header "
    "WS_FORWARDED_HEADER"
)


_UNLIMITED: Final = nullcontext()


@attrs.frozen
class PerAddressLimit:
    """The limit of one address; 0 for none. `public_only`: other addresses have no limit."""

    maximum: float = 0.0
    public_only: bool = False

    @classmethod
    def of(cls, maximum: float | None, public: float) -> Self:
        """Return `maximum` for every address; if unset, `public` for public addresses."""
        return cls(public, public_only=True) if maximum is None else cls(maximum)

    def applies_to(self, client_address: ClientAddress) -> bool:
        """Return whether the limit applies to connections from there.

        It applies to a proxy that has not named its client: a misconfigured proxy lifts no limit.
        """
        if not self.maximum:
            return False
        return not (self.public_only and client_address.named) or is_public(client_address.address)


@attrs.frozen
class RateLimits:
    """Limits of the settings; 0 for none. Rates are connections per second."""

    rate: float = 0.0
    rate_per_address: PerAddressLimit = PerAddressLimit()
    connections_per_address: PerAddressLimit = PerAddressLimit()


class RateLimiter:
    """Counts connections and attempts by address; an IPv6 /64 counts as one."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        # The bucket starts full, so the time does not matter.
        self._all = TokenBucket(limits.rate, limits.rate * _BURST_SECONDS, 0.0)
        # Least recently charged first, which is the first to be full again.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._connections: Counter[str] = Counter()
        self._warned_at: float | None = None

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets.keys() | self._connections.keys())

    def check_rate(self, client_address: ClientAddress) -> None:
        """Charge a connection attempt. Raises HTTPRejection, which charges nothing."""
        limits = self._limits
        limited = limits.rate_per_address.applies_to(client_address)
        if not (limits.rate or limited):
            return
        now = trio.current_time()
        key = limit_key(client_address.address)
        bucket = self._bucket(key, now) if limited else None
        # The address first: otherwise a flood would use up the shared rate.
        if bucket is not None and not bucket.available(now):
            raise self._rejection("connect_rate_per_ip", key, limits.rate_per_address.maximum)
        if limits.rate:
            if not self._all.available(now):
                raise self._rejection("connect_rate", key, limits.rate)
            self._all.spend(1)
        if bucket is not None:
            bucket.spend(1)
            self._buckets[key] = bucket
            self._buckets.move_to_end(key)

    def count_connection(self, client_address: ClientAddress) -> AbstractContextManager[None]:
        """Count a connection during the block. Raises HTTPRejection."""
        limit = self._limits.connections_per_address
        if not limit.applies_to(client_address):
            return _UNLIMITED
        key = limit_key(client_address.address)
        if self._connections[key] >= limit.maximum:
            raise self._rejection("max_connections_per_ip", key, limit.maximum)
        self._connections[key] += 1
        return Lease(None, partial(self._release, key))

    def _release(self, key: str) -> None:
        self._connections[key] -= 1
        if not self._connections[key]:
            del self._connections[key]

    def _bucket(self, key: str, now: float) -> TokenBucket:
        """Return the bucket of an address; drops full ones, which equal new ones."""
        while self._buckets:
            oldest = next(iter(self._buckets.values()))
            oldest.available(now)
            if oldest.seconds_until_full() and len(self._buckets) < _MAX_ADDRESSES:
                break
            self._buckets.popitem(last=False)
        rate = self._limits.rate_per_address.maximum
        return self._buckets.get(key) or TokenBucket(rate, rate * _BURST_SECONDS, now)

    def _rejection(self, label: str, key: str, maximum: float) -> HTTPRejection:
        name = f"WS_{label.upper()}"
        of_one = label.endswith("_ip")
        now = trio.current_time()
        if self._warned_at is None or now - self._warned_at >= _WARN_SECONDS:
            self._warned_at = now
            hint = {"hint": _HINT} if of_one else {}
            log.warning(
                "connections rejected by rate limit",
                setting=name,
                address=key,
                limit=maximum,
                **hint,
            )
        text = f"too many connections: {name} is {maximum:g}" + f", and this is {key}" * of_one
        return HTTPRejection(HTTPStatus.TOO_MANY_REQUESTS, label, text, [retry_after()])
