"""/clients: connected clients and the backlog of each."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import attrs
import orjson
import trio
from starlette.responses import Response

from odin_ws.connection.connection import Connection
from odin_ws.ops.page_cache import PageCache
from odin_ws.protocol.commands import Delivery
from odin_ws.service import Service

__all__ = ["ClientsPages", "InvalidQuery", "clients_report", "read_limit"]

# A screenful; and a limit that is readable, where 12,000 would be megabytes.
_DEFAULT_LIMIT: Final = 20
_MOST: Final = 1000


# A few of a thousand patterns show the purpose of a client.
_FIRST_PATTERNS: Final = 3

# A report has one of these numbers of connections, whatever the limit: two cached reports instead
# of a thousand, and the usual one stays small.
_SIZES: Final = (_DEFAULT_LIMIT, _MOST)


_TOTALS: Final = ("connections", "backlogged", "backlog_bytes", "replaying", "latest")

# A quarter of a millisecond; all of 12,000 connections in one piece would be 15.
_SLICE: Final = 200


class InvalidQuery(ValueError):
    """The query string is invalid; the message says what is allowed."""


def read_limit(query: Mapping[str, str]) -> int:
    """How many connections to list. Raises InvalidQuery."""
    if unknown := query.keys() - {"limit"}:
        raise InvalidQuery(f"unknown parameter {', '.join(sorted(unknown))}; allowed: limit")
    text = query.get("limit", str(_DEFAULT_LIMIT))
    # Not all that is a digit to Python is one to us.
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST)) else 0
    if not 1 <= limit <= _MOST:
        raise InvalidQuery(f"limit={text}: must be an integer, 1 to {_MOST}")
    return limit


@attrs.frozen
class _Listed:
    """A report, each connection of it as JSON, so that a shorter one is joined and not encoded."""

    totals: bytes
    clients: list[bytes]


class ClientsPages:
    """`/clients` for every limit, out of reports that are shared.

    Args:
        report: builds a report with a number of connections at most.
        seconds: how often at most each is built.
    """

    def __init__(self, report: Callable[[int], Awaitable[dict[str, Any]]], seconds: float) -> None:
        self._report = report
        self._pages = {size: PageCache(partial(self._build, size), seconds) for size in _SIZES}

    async def get(self, limit: int) -> Response:
        """The page with `limit` connections at most."""
        listed = await self._pages[next(size for size in _SIZES if limit <= size)].get()
        clients = b",".join(listed.clients[:limit])
        body = b'{"totals":%b,"clients":[%b]}' % (listed.totals, clients)
        return Response(body, media_type="application/json")

    async def _build(self, size: int) -> _Listed:
        report = await self._report(size)
        clients = [orjson.dumps(one) for one in report["clients"]]
        return _Listed(orjson.dumps(report["totals"]), clients)


async def clients_report(service: Service, limit: int) -> dict[str, Any]:
    """Totals, and the connections with the most bytes waiting; among equals the oldest first."""
    connections = list(service.server.connections)
    totals = Counter(dict.fromkeys(_TOTALS, 0))
    ranked: list[tuple[tuple[int, float], Connection]] = []
    for part in _slices(connections):
        for one in part:
            backlog = one.send_queue.backlog
            totals["connections"] += 1
            totals["backlogged"] += backlog > 0
            totals["backlog_bytes"] += backlog
            totals["replaying"] += one.replaying
            totals["latest"] += one.subscriber.conflation is not None
            ranked.append(((backlog, -one.opened_at), one))
        await trio.lowlevel.checkpoint()
    maximum = [one for _, one in heapq.nlargest(limit, ranked, key=itemgetter(0))]
    now = trio.current_time()
    clients = []
    for part in _slices(maximum):
        clients += [_client(one, now) for one in part]
        await trio.lowlevel.checkpoint()
    return {"totals": dict(totals), "clients": clients}


def _slices(connections: Sequence[Connection]) -> Iterator[Sequence[Connection]]:
    return (connections[at : at + _SLICE] for at in range(0, len(connections), _SLICE))


def _client(connection: Connection, now: float) -> dict[str, Any]:
    subscriber, send_queue = connection.subscriber, connection.send_queue
    conflation, since = subscriber.conflation, send_queue.waiting_since
    return {
        "peer": connection.peer,
        "user": connection.grant.user,
        "transport": "websocket" if subscriber.form.event_ids is None else "sse",
        "backlog_bytes": send_queue.backlog,
        "waiting_seconds": 0 if since is None else round(now - since, 3),
        "seq": subscriber.seq,
        "patterns": len(subscriber.patterns),
        "first_patterns": sorted(islice(subscriber.patterns, _FIRST_PATTERNS)),
        "delivery": Delivery.ALL if conflation is None else Delivery.LATEST,
        "held_messages": 0 if conflation is None else conflation.waiting,
        "replaying": connection.replaying,
        "connected_seconds": round(now - connection.opened_at, 3),
        "heard_seconds": round(now - connection.last_received_at, 3),
    }
