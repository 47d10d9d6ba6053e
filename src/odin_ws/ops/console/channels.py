"""The busiest channels and the most subscribed patterns, computed on request.

The hot path counts nothing for them: rates come from the newest messages of the history.
"""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import trio

from odin_ws.hub import Hub
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["TABLE_ROWS", "busiest_channels", "most_subscribed"]

# A screenful.
TABLE_ROWS: Final = 20

# Rates are those of the newest messages: of 10 s, and of 5,000 messages at most (some 2 ms).
_WINDOW_SECONDS: Final = 10.0
_WINDOW_MESSAGES: Final = 5000

# A quarter of a millisecond; 100,000 patterns in one piece would be 12.
_SLICE: Final = 2000

# Thousands may be kept at the same time.
_SHORTEST_SECONDS: Final = 0.001


def busiest_channels(hub: Hub) -> dict[str, Any]:
    """The channels with most messages a second: `seconds` of the window, its `messages`, `rows`.

    `subscribers` counts those of all patterns that match; one with two of them counts twice.
    """
    now = trio.current_time()
    newest, oldest = hub.history.newest(now - _WINDOW_SECONDS, _WINDOW_MESSAGES)
    # A full window may be shorter.
    full = len(newest) == _WINDOW_MESSAGES
    seconds = max(_SHORTEST_SECONDS, now - oldest) if full else _WINDOW_SECONDS
    contiguous_since = hub.stream.contiguous_since
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    last: dict[str, ChannelMessage] = {}
    for message in newest:
        # Records from before the start are in the history too, as if they had just arrived.
        if message.order <= contiguous_since:
            break
        counts[message.channel] += 1
        sizes[message.channel] += len(message.value)
        last.setdefault(message.channel, message)
    rows = [
        {
            "channel": channel,
            "messages_per_second": round(count / seconds, 2),
            "bytes_per_second": round(sizes[channel] / seconds),
            "subscribers": hub.index.subscriptions_to(last[channel]),
        }
        for channel, count in counts.most_common(TABLE_ROWS)
    ]
    return {"seconds": round(seconds, 3), "messages": counts.total(), "rows": rows}


async def most_subscribed(hub: Hub) -> list[dict[str, Any]]:
    """The patterns with most subscribers."""
    counts = hub.index.pattern_counts()
    found: list[tuple[str, int]] = []
    while part := list(islice(counts, _SLICE)):
        found = heapq.nlargest(TABLE_ROWS, [*found, *part], key=itemgetter(1))
        await trio.lowlevel.checkpoint()
    # Those whose subscribers have left meanwhile have none.
    return [{"pattern": pattern, "subscribers": count} for pattern, count in found if count]
