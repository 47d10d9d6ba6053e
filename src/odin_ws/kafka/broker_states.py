"""The state of each broker as fetch responses show it: quotas, and fetches by topic name."""

from __future__ import annotations

import math
from typing import Final

import trio

from odin_ws.kafka.protocol import FetchRequest, FetchResponse

__all__ = ["UNSEEN_SECONDS", "BrokerStates"]

# A topic cannot be deleted and created again between two fetches or metadata responses that are not
# further apart: the controller needs longer for that, and a waiting fetch fails when its topic is
# deleted.
UNSEEN_SECONDS: Final = 0.2

# Quotas delay a fetch by some seconds, the length of their window (11 s by default). The field may
# say 24 days, for which nothing would be read. A fetch that is sent too early only times out.
_MAX_THROTTLE_SECONDS: Final = 60.0


class BrokerStates:
    """The state of each broker, by node id.

    `throttled`: brokers that delay fetches because of a quota, and since when (Trio's clock).

    Args:
        slot: seconds between two fetches from a broker.
    """

    def __init__(self, slot: float) -> None:
        self.throttled: dict[int, float] = {}
        self._slot = slot
        self._by_name: set[int] = set()

    def note(self, node: int, request: FetchRequest, response: FetchResponse) -> float:
        """Note a response; returns when the broker reads the next fetch, -inf if at once.

        A fetch that is sent earlier would time out, as if the broker were lost.
        """
        by_id = request.by_id and response.by_id
        if by_id or not any(request.topic_ids.values()):
            self._by_name.discard(node)
        else:
            self._by_name.add(node)
        if response.throttle_seconds <= 0:
            self.throttled.pop(node, None)
            return -math.inf
        now = trio.current_time()
        self.throttled.setdefault(node, now)
        return now + min(response.throttle_seconds, _MAX_THROTTLE_SECONDS)

    def fetches_by_name(self, node: int) -> bool:
        """Return whether the broker fetches topics by name although they have ids.

        It reads a recreated topic like the old one (Kafka 2.8 and 3.0, KIP-516).
        """
        return node in self._by_name

    def longest_unseen(self, node: int) -> float:
        """Return for how long a topic may not have been seen before a fetch or look-up."""
        return UNSEEN_SECONDS + 2 * self._slot if node in self._by_name else math.inf
