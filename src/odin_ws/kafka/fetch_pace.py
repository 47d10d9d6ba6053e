"""Paces fetches: when the next one is sent, and when the records of a slot are delivered.

A broker responds to a fetch at the first record. Its records begin a slot and are delivered at
once; the next fetch waits for the next slot. So there is at most one fetch per slot and broker, a
single record does not wait, and steady records wait half a slot on average at the broker.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from odin_ws.slots import Slots

__all__ = ["FetchPace"]

# Two slots may begin at once after a pause. A late record delays none of the regular records after
# it, and the duration of a fetch does not add up from slot to slot.
_BURST: Final = 2

# Brokers that are fetched from at the same time respond within some ms: their records are delivered
# together. A slot of 50 ms waits for them at most 5 ms after the fetches.
_MERGED_PART: Final = 0.1
_MERGED_SECONDS: Final = 0.005


class FetchPace:
    """Slots of `slot` seconds, shared by all brokers."""

    def __init__(self, slot: float) -> None:
        self._slot = slot
        self._slots = Slots(slot, _BURST)
        self._merged_seconds = min(_MERGED_SECONDS, _MERGED_PART * slot)
        # Brokers with an unanswered fetch, and when it was or will be sent.
        self._asked_at: dict[int, float] = {}
        # Brokers with records for the next slot: later records belong to the slot after it.
        self._ready: set[int] = set()
        self._answered = trio.Event()

    def sent(self, node: int, now: float) -> None:
        """Note that a fetch was sent."""
        self._asked_at[node] = now

    def answered(self, node: int, now: float, *, has_records: bool) -> float:
        """Note a response or a failure; returns when to send the next fetch."""
        self._answered.set()
        if not has_records:
            del self._asked_at[node]
            return -math.inf
        next_start = self._slots.next_start
        if node in self._ready:
            # Earlier records are not delivered yet, because the hub is behind: fetch a slot later.
            again_at = now + self._slot
        elif next_start > now:
            # Within a slot: these records wait for the next one, together with later records.
            again_at = next_start
        else:
            again_at = self._slots.start_after_next(now)
            self._ready.add(node)
        self._asked_at[node] = again_at
        return again_at

    async def begin_slot(self, seconds: float) -> bool:
        """Begin a slot as soon as possible; returns False if that takes more than `seconds`.

        The slot begins with the records of all brokers that were just fetched from.
        """
        give_up_at = trio.current_time() + seconds
        while (at := self._begin_at()) > trio.current_time():
            if at > give_up_at:
                await trio.sleep_until(give_up_at)
                return False
            self._answered = trio.Event()
            with trio.move_on_at(at):
                await self._answered.wait()
        self._slots.start(trio.current_time())
        self._ready.clear()
        return True

    def _begin_at(self) -> float:
        now, next_start = trio.current_time(), self._slots.next_start
        latest = max(now, next_start)
        starts = (
            at for node, at in self._asked_at.items() if at <= latest and node not in self._ready
        )
        return max(next_start, max(starts, default=-math.inf) + self._merged_seconds)
