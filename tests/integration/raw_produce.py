"""Batches as they are, byte for byte, which no producer's library would write."""

from __future__ import annotations

import struct

import trio

__all__ = ["produce"]

# For what takes milliseconds on a free machine.
PATIENCE = 30


async def produce(bootstrap: str, topic: str, batch: bytes) -> int:
    """Write a batch to a topic's partition 0; returns Kafka's error code, 0 for none."""
    host, port = bootstrap.split(":")
    name = _string(topic)
    # acks from the leader, 10 s, one topic with one partition.
    body = _string(None) + struct.pack(">hii", 1, 10_000, 1) + name
    body += struct.pack(">iii", 1, 0, len(batch)) + batch
    request = struct.pack(">hhi", 0, 3, 1) + _string("odin-ws-tests") + body
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", await _exactly(stream, 4))
            response = await _exactly(stream, size)
    # Behind the correlation id, two counts, the name and the partition.
    (error,) = struct.unpack_from(">h", response, 4 + 4 + len(name) + 4 + 4)
    return int(error)


def _string(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(text)) + text.encode()


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.receive_some(size - len(data))
        assert part, "the broker has closed the connection"
        data += part
    return data
