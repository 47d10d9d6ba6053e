"""Paces fetches: when the next is sent, and when the records of a slot are handed on.

A fetch is answered at the first record. Its records begin a slot and are handed on at once; the
next fetch is not sent before the next slot may begin. So there is at most one fetch a slot and
broker, a record that comes alone waits for nothing, and records that keep coming wait at the broker
for half a slot on average.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from odin_ws.slots import Slots

__all__ = ["FetchPace"]

# Two slots may begin at once after a pause. A record that comes late delays none of those that
# follow it evenly, and the time a fetch takes does not add up from slot to slot.
_BURST: Final = 2

# Several brokers that are asked at the same time answer within some ms: their records are handed on
# together. A slot of 50 ms waits for them at most 5 ms after they were asked.
_MERGED_PART: Final = 0.1
_MERGED_SECONDS: Final = 0.005


class FetchPace:
    """Slots of `slot` seconds, one sequence of them for all brokers."""

    def __init__(self, slot: float) -> None:
        self._slot = slot
        self._slots = Slots(slot, _BURST)
        self._merged_seconds = min(_MERGED_SECONDS, _MERGED_PART * slot)
        # By broker when the fetch was sent, or will be, that it has not answered.
        self._asked_at: dict[int, float] = {}
        # Brokers whose records of the next slot have come: what they send now is for the one after.
        self._ready: set[int] = set()
        self._answered = trio.Event()

    def sent(self, node: int, now: float) -> None:
        """Note that a broker is asked."""
        self._asked_at[node] = now

    def answered(self, node: int, now: float, *, has_records: bool) -> float:
        """Note a broker's answer, or that there is none; returns when to send the next fetch."""
        self._answered.set()
        if not has_records:
            del self._asked_at[node]
            return -math.inf
        next_start = self._slots.next_start
        if node in self._ready:
            # They were not handed on yet, for the hub is behind: it gets more a slot later.
            again_at = now + self._slot
        elif next_start > now:
            # Within a slot: these records wait for the next one, and come together with more.
            again_at = next_start
        else:
            again_at = self._slots.start_after_next(now)
            self._ready.add(node)
        self._asked_at[node] = again_at
        return again_at

    async def begin_slot(self, seconds: float) -> bool:
        """Begin a slot as soon as that may be; returns False if that takes more than `seconds`.

        It begins with the records of all brokers that were asked just now.
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
        asked = (
            at for node, at in self._asked_at.items() if at <= latest and node not in self._ready
        )
        return max(next_start, max(asked, default=-math.inf) + self._merged_seconds)
