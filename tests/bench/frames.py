"""Frames of a server, written without the server's code."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np

from odin_ws.bench.tables import Bytes, Tables

__all__ = ["batch", "frame", "message", "octets", "packed", "tables"]


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a complete, unmasked frame."""
    if len(payload) < 126:
        return struct.pack("!BB", 0x80 | opcode, len(payload)) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, len(payload)) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, len(payload)) + payload


def message(  # noqa: PLR0913 -- a record's fields
    seq: int,
    number: int,
    *,
    offset: int | None = None,
    partition: int = 0,
    channel: int = 0,
    published_us: int = 0,
    pad: int = 200,
) -> bytes:
    """Return a message's frame; its offset is the record's number by default."""
    value = {
        "type": "TRADE_EXECUTED",
        "timestamp": 1767609600000,
        "data": {"k": channel, "n": number, "pub_us": published_us, "pad": "x" * pad},
    }
    text = {
        "seq": seq,
        "ts": 1767609600123,
        "type": "message",
        "channel": f"B1-{channel}.trade",
        "pos": f"{partition}-{number if offset is None else offset}",
        "data": value,
    }
    return frame(json.dumps(text, separators=(",", ":")).encode())


def batch(seq: int, *numbers: int) -> bytes:
    """Return a batch's frame; each message has a record's number."""
    bodies = []
    for number in numbers:
        single = message(1, number)
        text = json.loads(single[single.index(b"{") :])
        del text["seq"], text["type"]
        bodies.append(text)
    text = {"type": "batch", "seq": seq, "messages": bodies}
    return frame(json.dumps(text, separators=(",", ":")).encode())


def packed(single: bytes, window_bits: int = 15) -> bytes:
    """Return the frame compressed as odin-ws does: `seq` in a stored block, then the rest."""
    payload = single[single.index(b"{") :]
    end = payload.index(b",", payload.index(b'"seq":'))
    head, tail = payload[:end], payload[end:]
    stream = zlib.compressobj(6, zlib.DEFLATED, -window_bits)
    blocks = (stream.compress(tail) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stored = struct.pack("<BHH", 0, len(head), len(head) ^ 0xFFFF) + head
    whole = bytearray(frame(stored + blocks))
    whole[0] |= 0x40
    return bytes(whole)


def octets(data: bytes) -> Bytes:
    """Return the bytes as a writable array, a type for which the benchmark's code is compiled."""
    return np.frombuffer(bytearray(data), np.uint8)


def tables(*channels: list[int], topics: int = 1, partitions: int = 12) -> Tables:
    """Return tables of connections that follow these channels and have received nothing."""
    return Tables.empty(
        np.cumsum([0, *map(len, channels)]),
        np.array([key for keys in channels for key in keys], np.int64),
        np.zeros(len(channels), np.int64),
        topics=topics,
        partitions=partitions,
    )
