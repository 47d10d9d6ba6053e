"""Hostile clients of event streams, filters, rates, compression, batches and replays."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Iterable
from itertools import count
from typing import Final
from urllib.parse import quote

import trio

from odin_ws.protocol.filters.parser import MAX_CONSTANTS, MAX_TERMS
from tests.hostile.kinds import UPGRADE, Visit, command, listen
from tests.scenarios.wire import Op, frame, request

__all__ = ["AT_ONCE_STREAMS", "STREAM_KINDS", "largest_filter"]

_numbers: Final = count()

# A command of some 7 KiB counts as 7, and WS_COMMAND_RATE is 10 per second.
_FILTER_SECONDS: Final = 0.9
# Subscribe and unsubscribe, 8 commands per second.
_RATE_SECONDS: Final = 0.25
_FLOOD_SECONDS: Final = 0.05

# Commands of some 7 KiB: more than WS_COMMAND_BURST permits at once.
_WAITING: Final = 30

# A command that begins in the past counts as five of 10 per second.
_SINCE_SECONDS: Final = 0.7
# The year 2100.
_FUTURE_MS: Final = 4_102_444_800_000

# Of a replay: more than the response to the upgrade.
_PART_BYTES: Final = 8192

_DEFLATED: Final = request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
_ALL_OFF: Final = command("unsubscribe", channels=["*.*"])
_BATCHES: Final = command("subscribe", channels=["*.*"], frames="batch")
_SINCE_BATCHES: Final = command("subscribe", channels=["*.*"], frames="batch", since_ms=0)
_SINCE: Final = command("subscribe", channels=["*.*"], since_ms=0)


def _compressed(text: bytes) -> bytes:
    """A text as one frame of permessage-deflate."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return frame(Op.TEXT, data.removesuffix(b"\x00\x00\xff\xff"), rsv=4)


# Inflates to nothing.
_EMPTY_BLOCK: Final = b"\x00\x00\x00\xff\xff"

# 64 MiB in 64 KiB, and valid commands of 60 KiB in some hundred bytes.
_BOMB: Final = _compressed(b" " * (64 << 20))
_SMALL_BOMB: Final = _compressed(b'{"type":"heartbeat"}'.ljust(60_000))


def largest_filter(number: int) -> object:
    """The filter with the most comparisons and constants, distinct for each number."""
    listed = MAX_CONSTANTS // MAX_TERMS
    constants = [f"{number}-{one}".ljust(40, "x") for one in range(listed)]
    return {"or": [{"field": f"data.{term}", "in": constants} for term in range(MAX_TERMS)]}


def _sse(**fields: object) -> bytes:
    """The head of a request for an event stream."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in fields.items())
    lines = [f"GET /sse?{query} HTTP/1.1", "Host: test", "Accept: text/event-stream", "", ""]
    return "\r\n".join(lines).encode()


async def sse_no_reader(stream: trio.SocketStream) -> None:
    """Streams everything, and reads nothing."""
    await stream.send_all(_sse(channels="*.*"))
    await trio.sleep_forever()


async def sse_returning(stream: trio.SocketStream) -> None:
    """Opens a stream and disconnects; reconnects at once."""
    await stream.send_all(_sse(channels="*.*", snapshot="true"))
    await stream.receive_some(100)


async def sse_since(stream: trio.SocketStream) -> None:
    """Streams everything since the beginning of the log, and reads nothing."""
    await stream.send_all(_sse(channels="*.*", since_ms=0))
    await trio.sleep_forever()


async def sse_filters(stream: trio.SocketStream) -> None:
    """Streams with a filter of its own, as large as the request head permits."""
    tree = largest_filter(next(_numbers))
    await stream.send_all(_sse(channels="*.*", where=json.dumps(tree, separators=(",", ":"))))
    await listen(stream)


async def sse_talking(stream: trio.SocketStream) -> None:
    """Sends bytes after the request of a stream, without an end."""
    await stream.send_all(_sse(channels="*.*"))
    while True:
        await stream.send_all(b"x" * 4096)
        await trio.sleep(_FLOOD_SECONDS)


async def snapshot_pages(stream: trio.SocketStream) -> None:
    """Requests the last message of all channels over HTTP, and reads nothing; returns at once."""
    await stream.send_all(b"GET /snapshot?channels=*.* HTTP/1.1\r\nHost: test\r\n\r\n")
    await trio.sleep(1)


async def filters(stream: trio.SocketStream) -> None:
    """Changes to another largest filter as often as permitted, and receives."""

    def changes() -> Iterable[bytes]:
        while True:
            where = largest_filter(next(_numbers))
            # It stays until the next one.
            yield _ALL_OFF + command("subscribe", channels=["*.*"], where=where)

    await _changing(stream, changes(), _FILTER_SECONDS)


async def rates(stream: trio.SocketStream) -> None:
    """Changes its `max_rate` as often as permitted, and receives."""

    def changes() -> Iterable[bytes]:
        while True:
            rate = random.randint(1, 200) / 10  # noqa: S311 -- no secret
            yield _ALL_OFF + command("subscribe", channels=["*.*"], max_rate=rate)

    await _changing(stream, changes(), _RATE_SECONDS)


async def rates_of_own_names(stream: trio.SocketStream) -> None:
    """Subscribes to the existing channels one by one, each with another `max_rate`."""

    def changes() -> Iterable[bytes]:
        for number in range(100):
            channels = [f"H{number * 10 + one}.trade" for one in range(10)]
            yield command("subscribe", channels=channels, max_rate=(number % 200 + 1) / 10)

    await _changing(stream, changes(), _RATE_SECONDS)
    await listen(stream)


async def own_pairs(stream: trio.SocketStream) -> None:
    """Holds back everything by a filter and a rate of its own, beside a channel sent at once."""
    number = next(_numbers)
    # As many filters as a server permits to all clients, and low rates, which hold the most.
    where = {"field": "data.pair", "ne": number % 100}
    paced = command("subscribe", channels=["*.*"], where=where, max_rate=(number % 20 + 1) / 10)
    await stream.send_all(UPGRADE + paced + command("subscribe", channels=["H1.*"]))
    await listen(stream)


async def waiting_filters(stream: trio.SocketStream) -> None:
    """Sends commands with the largest filters, which wait behind a replay that it does not read."""
    where = [largest_filter(next(_numbers)) for _ in range(_WAITING)]
    commands = [command("subscribe", channels=["BTC.trade"], where=one) for one in where]
    await stream.send_all(UPGRADE + _SINCE + b"".join(commands))
    await trio.sleep_forever()


async def _changing(stream: trio.SocketStream, changes: Iterable[bytes], pause: float) -> None:
    await stream.send_all(UPGRADE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, stream)
        for data in changes:
            await stream.send_all(data)
            await trio.sleep(pause)


async def since_times(stream: trio.SocketStream) -> None:
    """Subscribes to everything since a moment in the future, again and again, and receives."""

    def changes() -> Iterable[bytes]:
        while True:
            # Another time each: nothing is replayed, but Kafka looks up its offsets.
            since = _FUTURE_MS + next(_numbers)
            yield _ALL_OFF + command("subscribe", channels=["*.*"], since_ms=since)

    await _changing(stream, changes(), _SINCE_SECONDS)


async def deflate_bomb(stream: trio.SocketStream) -> None:
    """Sends 64 KiB that inflate to 64 MiB."""
    await stream.send_all(_DEFLATED + _BOMB)
    await listen(stream)


async def deflate_flood(stream: trio.SocketStream) -> None:
    """Sends commands that inflate to 60 KB each, without an end, and reads nothing."""
    await stream.send_all(_DEFLATED)
    while True:
        await stream.send_all(_SMALL_BOMB * 20)
        await trio.sleep(_FLOOD_SECONDS)


async def deflate_no_end(stream: trio.SocketStream) -> None:
    """Sends a compressed message in fragments, without an end."""
    await stream.send_all(_DEFLATED + frame(Op.TEXT, _EMPTY_BLOCK, fin=False, rsv=4))
    while True:
        await stream.send_all(frame(Op.CONTINUATION, _EMPTY_BLOCK, fin=False))
        await trio.sleep(_FLOOD_SECONDS)


async def batch_no_reader(stream: trio.SocketStream) -> None:
    """Subscribes to everything in compressed batches, and reads nothing."""
    await stream.send_all(_DEFLATED + _BATCHES)
    await trio.sleep_forever()


async def batch_replays(stream: trio.SocketStream) -> None:
    """Replays everything in batches, and reads one KiB a second."""
    await stream.send_all(UPGRADE + _SINCE_BATCHES)
    while True:
        if not await stream.receive_some(1024):
            return
        await trio.sleep(1)


async def stalled_replays(stream: trio.SocketStream) -> None:
    """Replays everything, and reads nothing: it keeps its share of the replay window."""
    await stream.send_all(UPGRADE + _SINCE)
    await trio.sleep_forever()


async def reset_replays(stream: trio.SocketStream) -> None:
    """Replays everything, and resets the connection in the middle."""
    await stream.send_all(UPGRADE + _SINCE)
    received = 0
    while received < _PART_BYTES and (data := await stream.receive_some(4096)):
        received += len(data)
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))


STREAM_KINDS: Final[tuple[Visit, ...]] = (
    sse_no_reader,
    sse_returning,
    sse_since,
    sse_filters,
    sse_talking,
    snapshot_pages,
    filters,
    rates,
    rates_of_own_names,
    own_pairs,
    waiting_filters,
    since_times,
    deflate_bomb,
    deflate_flood,
    deflate_no_end,
    batch_no_reader,
    batch_replays,
    stalled_replays,
    reset_replays,
)

# Kinds that reconnect within about a second after they were closed.
AT_ONCE_STREAMS: Final = frozenset({sse_returning, snapshot_pages})
