"""Seeds: valid inputs, as the parts they consist of."""

from __future__ import annotations

import json
import re
import socket
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt

from tests.kafka.batches import batch, legacy, raw_batch, raw_record
from tests.kafka.protocol.golden import GOLDEN
from tests.scenarios.wire import Op, frame, request

__all__ = ["GOOD_TOKEN", "SECRET", "SEEDS"]

# First bytes that select chunks and endings: see the targets.
_WHOLE: Final = b"\x00"
_BYTES: Final = b"\x01"
_READS: Final = b"\x01"

# In one chunk, and with the proxy's header being `Forwarded`.
_STANDARD: Final = b"\x04"

SECRET: Final = "a secret of the tests, of 32 bytes or more"  # noqa: S105 -- of the tests only
GOOD_TOKEN: Final = jwt.encode(
    {"sub": "me", "exp": 1 << 40, "channels": ["*.trade"], "jti": "1"}, SECRET, "HS256"
)

_SELECTION: Final[Mapping[str, Any]] = {"channels": ["BTC.trade", "*.*", "a.b.social", "BTC.ALL"]}
_POSITIONS: Final = {"odin.trades": {"0": 3, "11": -1}, "odin.social": {"1": 1 << 40}}
_LAST: Final = {"BTC.trade": "0-3", "a.b.social": "11-9223372036854775807"}

_COMMANDS: Final = tuple(
    json.dumps(command, separators=(",", ":")).encode()
    for command in (
        {"type": "heartbeat", "id": 1, "data": {}},
        {"type": "subscribe", "id": "a", "data": {**_SELECTION, "positions": True}},
        {
            "type": "subscribe",
            "data": {"topics": ["odin.trades"], "bundles": ["TRADING"], "tokens": ["BTC", "ä"]},
        },
        {"type": "subscribe", "data": {"channels": ["BTC.trade"], "delivery": "latest"}},
        {"type": "subscribe", "data": {"channels": ["*.trade"], "snapshot": True}},
        {"type": "subscribe", "data": {"channels": ["*.trade"], "since_ms": 0}},
        {"type": "resume", "id": 2, "data": {**_SELECTION, "positions": _POSITIONS}},
        {"type": "reconnect", "data": {"client_id": "me", "last_pos": _LAST}},
        {"type": "reconnect", "data": {"client_id": "me", "last_offset": {"odin.trades": 4}}},
        {"type": "replay", "data": {"from": 1, "to": 3}},
        {"type": "replay", "data": {"since": 0}},
        {"type": "unsubscribe", "data": _SELECTION},
        {"type": "auth", "data": {"token": "e30.e30.e30"}},
        {"type": "subscribe", "data": {"channels": ["*.trade"], "max_rate": 0.1}},
        {"type": "subscribe", "data": {"channels": ["T1.*"], "where": {"field": "a", "eq": "1.0"}}},
        {"type": "subscribe", "data": {"channels": ["*.trade"], "frames": "batch"}},
    )
)

# A tree with each kind of condition, and values.
_TREES: Final[Sequence[Mapping[str, Any]]] = (
    {"field": "data.price", "gte": "0.10", "lt": 1e3, "ne": None},
    {"or": [{"field": "a", "in": [1, "x", True, None]}, {"not": {"field": "b", "exists": True}}]},
    {"and": [{"field": "type", "prefix": "TR"}, {"field": "a.b.c", "eq": False}]},
)
_VALUES: Final[Sequence[Mapping[str, Any]]] = (
    {"type": "TRADE_EXECUTED", "a": 1, "data": {"price": "0.1"}},
    {"a": {"b": {"c": False}}, "b": None, "data": {"price": 1e-7, "n": 10**30}},
)

_EVENT_ID: Final = "1,odin.trades:0f3c:A2bKB,odin.social::.C"

# Requests, as path, query and headers.
_QUERIES: Final = (
    "sse?channels=*.trade&frames=batch&snapshot=true",
    "sse?topics=odin.trades&tokens=T0,T1&delivery=latest&since_ms=0",
    "sse?channels=T1.trade&max_rate=0.5&where=%7B%22field%22:%22a%22,%22in%22:[1,%22x%22]%7D",
    f"sse?channels=*.trade,BTC.social\nLast-Event-ID: {_EVENT_ID}\nAccept: text/event-stream",
    f"sse?bundles=TRADING&last_event_id={_EVENT_ID.replace('1,', '1s,')}&snapshot=1",
    "sse?channels=*.trade\nLast-Event-ID: 1,odin.trades::C",
    "snapshot?channels=*.trade,BTC.social\nOrigin: https://odin.test",
    "healthz",
)


def _deflated(text: bytes) -> bytes:
    """Return the payload of a compressed message."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


_FRAMES: Final = tuple(frame(Op.TEXT, command) for command in _COMMANDS)
_CLOSE: Final = frame(Op.CLOSE, struct.pack("!H", 1000) + b"bye")
_CONTROL: Final = (frame(Op.PING, b"are you there"), frame(Op.PONG), _CLOSE)
_IN_PARTS: Final = (
    frame(Op.TEXT, b'{"type":"hea', fin=False),
    frame(Op.PING),
    frame(Op.CONTINUATION, b'rtbeat"', fin=False),
    frame(Op.CONTINUATION, b"}"),
)
_BINARY: Final = (frame(Op.BINARY, b"\xff" * 150, fin=False), frame(Op.CONTINUATION, b"\x00"))

_HEADS: Final = (
    request(),
    request(
        "/ws?v=0&a=%C3%A4", {"Origin": "https://odin.test", "Authorization": "Bearer e30.e30.x"}
    ),
    request(
        "http://test/ws", {"Sec-WebSocket-Protocol": "a, b", "X-Forwarded-For": "10.1.1.1, ::1"}
    ),
    request(headers={"Forwarded": 'for="[2001:db8::1]:80";proto=https, for=10.0.0.2'}),
    request(headers={"Content-Length": "0", "Transfer-Encoding": "chunked"}, method="POST"),
    # Requests of scanners: HTTP without a Host.
    b"GET / HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


def _resume(positions: Mapping[str, Mapping[str, int]], **more: object) -> dict[str, Any]:
    return {"type": "resume", "data": {"positions": positions, **more}}


_CLAIMS: Final[Sequence[Mapping[str, Any]]] = (
    {"sub": "me", "exp": 1 << 40, "jti": "1", "channels": ["*.trade", "BTC.*", "BTC.PORTFOLIO"]},
    {"sub": "ann@odin.test", "exp": 1e12, "nbf": 0, "iat": 1.5, "tokens": ["BTC", "*", 7]},
    {"sub": "\ud83d\ude00 \u00e4", "exp": 1 << 40, "max_subscriptions": 3, "tokens": "BTC"},
    {"sub": "\ud800", "exp": 10**400, "channels": ["\udfff.trade"], "aud": [], "iss": "us"},
)

# Commands with which a client resumes, or begins in the past.
_PAST: Final = tuple(
    json.dumps(command, separators=(",", ":")).encode()
    for command in (
        _resume({"odin.trades": {"0": 0}}, channels=["*.trade"]),
        _resume({"odin.trades": {"0": -1, "11": 3}}, channels=["*.*"], delivery="latest"),
        _resume({"odin.trades": {"0": 1 << 40}}, channels=["BTC.trade"], snapshot=True),
        _resume({"odin.trades": {"0": 2}}, channels=["T1.trade"], ids={"odin.trades": "other"}),
        _resume({}, topics=["odin.trades"], tokens=["T0", "T1"]),
        {"type": "subscribe", "data": {"channels": ["*.trade"], "since_ms": 0}},
        {"type": "subscribe", "data": {"channels": ["T2.*"], "snapshot": True, "positions": True}},
        {"type": "replay", "data": {"from": 1, "to": 3}},
        {"type": "reconnect", "data": {"client_id": "me", "last_pos": {"T0.trade": "0-0"}}},
        {"type": "reconnect", "data": {"client_id": "me", "last_offset": {"odin.trades": 0}}},
        {"type": "unsubscribe", "data": {"channels": ["*.trade"]}},
        _resume({"odin.trades": {"0": 0}}, channels=["*.trade"], frames="batch", max_rate=2),
        _resume({"odin.trades": {"0": 1}}, channels=["T2.*"], where={"field": "a", "eq": 1}),
        {"type": "subscribe", "data": {"channels": ["T1.*"], "max_rate": 20, "snapshot": True}},
    )
)

# The responses on which the server's view of Kafka is based.
_ANSWERS: Final = ("Fetch", "Metadata", "ListOffsets", "OffsetFetch")

_PROXY: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_PORTS: Final = struct.pack("!HH", 50000, 443)
_FOUR: Final = socket.inet_aton("192.0.2.1") * 2 + _PORTS
_SIX: Final = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + _PORTS

_BATCHES: Final = (
    *(batch(n, 3, codec=n) for n in range(5)),
    batch(5, 2, producer=9),
    raw_batch(7, raw_record(0, headers=[(b"\xff", b"x"), (b"name", None)]), 1),
    raw_batch(8, raw_record(2), 1, delta=5),
    *(legacy(14 + n, 2, codec=n) for n in range(3)),
    legacy(20, 2, magic=0),
)

Parts = Sequence[bytes]


def _json_parts(value: Mapping[str, Any]) -> Parts:
    """Split a JSON object into names, values and punctuation."""
    return [part.encode() for part in re.split(r'([{}\[\],:]|"[^"]*")', json.dumps(value)) if part]


def _query_parts(query: str) -> Parts:
    """Split a request into fields, names, values and punctuation."""
    return [part.encode() for part in re.split(r"([?&=,:\n])", query) if part]


# Inputs by target, each in parts that may be cut, repeated and reordered.
SEEDS: Final[Mapping[str, Sequence[Parts]]] = {
    "head": [
        (how, *request.splitlines(keepends=True))
        for how in (_BYTES, _STANDARD)
        for request in _HEADS
    ],
    "proxy": [
        (_WHOLE, _PROXY, b"\x20\x00\x00\x00"),
        (_BYTES, _PROXY, b"\x21\x11", struct.pack("!H", len(_FOUR)), _FOUR),
        (_BYTES, _PROXY, b"\x21\x21", struct.pack("!H", len(_SIX) + 3), _SIX, b"\x04\x00\x00"),
    ],
    "command": [(command,) for command in _COMMANDS],
    "token": [tuple(part.encode() for part in re.split(r"(\.)", GOOD_TOKEN))],
    "claims": [_json_parts(claims) for claims in _CLAIMS],
    "positions": [
        (json.dumps(value).encode(),) for value in (_POSITIONS, _LAST, {"odin.trades": 4})
    ],
    "frames": [
        (_WHOLE, *(frame(Op.TEXT, command[:100]) for command in _COMMANDS)),
        (_BYTES, *_IN_PARTS, *_BINARY, *_CONTROL),
    ],
    "deflate": [
        (_WHOLE, *(frame(Op.TEXT, _deflated(command), rsv=4) for command in _COMMANDS)),
        (_WHOLE, frame(Op.TEXT, _deflated(b" " * 100_000), rsv=4), *_CONTROL),
        (_BYTES, *_IN_PARTS, frame(Op.TEXT, _deflated(_COMMANDS[0]), rsv=4), *_CONTROL),
    ],
    "batches": [
        *((b"\x80", batch) for batch in _BATCHES),
        (b"\x00", *_BATCHES),
        (b"\x82", *_BATCHES[3:]),
    ],
    "records": [
        (b"\x00\x03\x02", b"BTC", b"hh", b'{"type":"TRADE_EXECUTED","data":{"price":"0.1"}}'),
        (b"\x02\x05\x00", b'"BTC"', b'{"n":1e400,"big":123456789012345678901234567890}'),
        (b"\x05\x08\x00", b"\x00\x00\x00\x00\x01BTC", b"\x00\x00\x00\x00\x02", b'{"a":[]}'),
        (b"\x00\x03\x00", b"BTC", b'{"a":"\\ud800","type":7}'),
    ],
    "response": [
        (bytes([number]), golden.response)
        for number, golden in enumerate(GOLDEN)
        if golden.name in _ANSWERS
    ],
    "resume": [
        (bytes([how]), b"\n".join(_PAST[first:] + _PAST[:first]))
        for how in (1, 3, 8, 9, 13)
        for first in range(0, len(_PAST), 3)
    ],
    "session": [
        (_WHOLE, _READS, *_FRAMES),
        (_WHOLE, b"\x00", *_FRAMES),
        (_BYTES, b"\x03", *_IN_PARTS, *_CONTROL),
        (_WHOLE, b"\x05", *_FRAMES[:3], *_IN_PARTS),
        (_WHOLE, _READS, *_BINARY, *_FRAMES[:2]),
    ],
    "filter": [
        (*_json_parts(tree), b"\n", *_json_parts(value)) for tree in _TREES for value in _VALUES
    ],
    "query": [_query_parts(query) for query in _QUERIES],
    "events": [(bytes([how]), *_query_parts(query)) for how in (0, 1, 3, 11) for query in _QUERIES],
    "caller": [(_WHOLE, _READS, request, *_FRAMES[:4], *_CONTROL) for request in _HEADS],
}
