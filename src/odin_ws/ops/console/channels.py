"""The busiest channels and the most subscribed patterns, computed on request.

The hot path has no counters for the tables: rates come from the newest messages of the history.
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

# Maximum number of rows: a screenful.
TABLE_ROWS: Final = 20

# Rates are computed from the messages of the last 10 s, at most 5,000 messages (some 2 ms).
_WINDOW_SECONDS: Final = 10.0
_WINDOW_MESSAGES: Final = 5000

# Patterns per slice: 0.25 ms. 100,000 patterns at once would take 12 ms.
_SLICE: Final = 2000

# Minimum length of the window: thousands of messages may have the same arrival time.
_SHORTEST_SECONDS: Final = 0.001


def busiest_channels(hub: Hub) -> dict[str, Any]:
    """Return the channels with most messages: `seconds` of the window, its `messages`, `rows`.

    `subscribers` is the sum over all matching patterns: a client with two of the patterns counts
    twice.
    """
    now = trio.current_time()
    newest, oldest = hub.history.newest(now - _WINDOW_SECONDS, _WINDOW_MESSAGES)
    # A full window may cover less than 10 s.
    full = len(newest) == _WINDOW_MESSAGES
    seconds = max(_SHORTEST_SECONDS, now - oldest) if full else _WINDOW_SECONDS
    contiguous_since = hub.stream.contiguous_since
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    last: dict[str, ChannelMessage] = {}
    for message in newest:
        # The history also has records from before the start, with the start as their arrival time.
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
    """Return the patterns with most subscribers."""
    counts = hub.index.pattern_counts()
    found: list[tuple[str, int]] = []
    while part := list(islice(counts, _SLICE)):
        found = heapq.nlargest(TABLE_ROWS, [*found, *part], key=itemgetter(1))
        await trio.lowlevel.checkpoint()
    # A pattern may have lost its last subscriber meanwhile.
    return [{"pattern": pattern, "subscribers": count} for pattern, count in found if count]
