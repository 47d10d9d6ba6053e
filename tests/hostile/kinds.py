"""The kinds of hostile clients: each is one visit, which lasts until the server ends it.

They share a machine with the server, so they must be cheap: bytes sent in quantity are built once.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count, cycle, islice, product
from string import ascii_lowercase
from typing import Final

import trio

from odin_ws.bench.broker import PARTITIONS
from odin_ws.catalogue import default_catalogue
from tests.scenarios.wire import Op, frame, request

__all__ = [
    "AT_ONCE",
    "CHANNELS",
    "CLOSE",
    "EXPENSIVE",
    "KINDS",
    "ON_OPS_PORT",
    "PROXIED",
    "PROXY",
    "UPGRADE",
    "Visit",
    "command",
    "forged_forwarded",
    "listen",
    "own_subscriptions",
    "returning",
    "vanishing",
]

Visit = Callable[[trio.SocketStream], Awaitable[None]]

# Pause between two sends of an endless stream: fewer wake-ups of this process, the same flood.
_PAUSE: Final = 0.5

# Address of a trusted proxy, and the connections that one client behind it opens at once: 87 such
# clients exceed the 1,000 connections of one public address.
PROXY: Final = "127.255.255.254"
PROXIED: Final = 15

UPGRADE: Final = request()
_HEARTBEAT: Final = frame(Op.TEXT, b'{"type":"heartbeat"}')
_BEGIN: Final = frame(Op.TEXT, b" ", fin=False)
_GO_ON: Final = frame(Op.CONTINUATION, b" ", fin=False)
CLOSE: Final = frame(Op.CLOSE, struct.pack("!H", 1000))
_numbers: Final = count()
# Short names: a command that is too large would be rejected unread.
_TEN_THOUSAND: Final = [
    "".join(letters) for letters in islice(product(ascii_lowercase, repeat=3), 10_000)
]


def command(kind: str, **data: object) -> bytes:
    """A command as a frame."""
    text = json.dumps({"type": kind, "data": data}, separators=(",", ":"))
    return frame(Op.TEXT, text.encode())


_EVERYTHING: Final = command("subscribe", channels=["*.*"])
_NAMES: Final = command("subscribe", channels=_TEN_THOUSAND)
_DEEP: Final = frame(Op.TEXT, b'{"type":"subscribe","data":' + b"[" * 30_000)
_POSITIONS: Final = command(
    "resume",
    channels=["*.*"],
    positions={"odin.trades": {str(number): 0 for number in range(3000)}},
)
_PAGE: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Channels published before the server starts, as (token, topic): the contents of snapshots.
_TOPICS: Final = default_catalogue().topics
CHANNELS: Final = [(f"H{number // 8}", list(_TOPICS)[number % 8]) for number in range(5000)]
_THOUSAND: Final = [f"{token}.{_TOPICS[topic].category}" for token, topic in CHANNELS[:1000]]
_PAST: Final = {topic: {str(number): 0 for number in range(PARTITIONS)} for topic in _TOPICS}
_SNAPSHOT: Final = command("subscribe", channels=["*.*"], snapshot=True)
_ALL_OFF: Final = command("unsubscribe", channels=["*.*"])
_SUBSCRIBED: Final = command("subscribe", channels=_THOUSAND)
_UNSUBSCRIBED: Final = command("unsubscribe", channels=_THOUSAND)
_RESUMED: Final = command("resume", channels=_THOUSAND, positions=_PAST)
_SINCE: Final = command("subscribe", channels=_THOUSAND, since_ms=0)

# 1.6 commands per second are within WS_COMMAND_RATE, if a command with a snapshot counts as five.
# This is the rate of the report that led to these kinds.
_SNAPSHOT_SECONDS: Final = 1 / 1.6

_GARBAGE: Final = bytes(byte * 151 % 256 for byte in range(512))
_TLS_HELLO: Final = bytes.fromhex("16030100a5010000a10303") + bytes(160)


async def _slowly(stream: trio.SocketStream, data: bytes, pause: float) -> None:
    for byte in data:
        await stream.send_all(bytes([byte]))
        await trio.sleep(pause)


async def listen(stream: trio.SocketStream) -> None:
    """Receive until the end of the stream."""
    while await stream.receive_some(65536):
        pass


async def _upgraded(stream: trio.SocketStream, *data: bytes) -> None:
    """Upgrade, send the data, and receive until the end."""
    await stream.send_all(b"".join((UPGRADE, *data)))
    await listen(stream)


async def _flooding(
    stream: trio.SocketStream, data: bytes, *, first: bytes = b"", pause: float = 0.05
) -> None:
    """Upgrade, and send the data without an end, reading nothing."""
    await stream.send_all(UPGRADE + first)
    while True:
        await stream.send_all(data)
        await trio.sleep(pause)


async def slow_head(stream: trio.SocketStream) -> None:
    """Sends a request head byte by byte."""
    await _slowly(stream, UPGRADE, 0.2)


async def half_a_head(stream: trio.SocketStream) -> None:
    """Sends a request head without its end."""
    await stream.send_all(UPGRADE[:-2])
    await listen(stream)


async def silent(stream: trio.SocketStream) -> None:
    """Sends nothing."""
    await listen(stream)


async def endless_head(stream: trio.SocketStream) -> None:
    """Sends headers without an end."""
    await stream.send_all(UPGRADE[:-2])
    for number in cycle(range(1000)):
        await stream.send_all(b"X-%d: %b\r\n" % (number, b"x" * 2000))
        await trio.sleep(_PAUSE)


async def garbage(stream: trio.SocketStream) -> None:
    """Sends random bytes."""
    await stream.send_all(_GARBAGE)
    await listen(stream)


async def tls_hello(stream: trio.SocketStream) -> None:
    """Sends a TLS ClientHello to a port without TLS."""
    await stream.send_all(_TLS_HELLO)
    await listen(stream)


async def wrong_upgrade(stream: trio.SocketStream) -> None:
    """Sends a head that a proxy could interpret differently, with other errors in it."""
    wrong = {"Sec-WebSocket-Version": "12", "Transfer-Encoding": "chunked", "Content-Length": "5"}
    await stream.send_all(request(headers=wrong, method="POST") + UPGRADE)
    await listen(stream)


async def vanishing(stream: trio.SocketStream) -> None:
    """Resets the connection within the request head."""
    await stream.send_all(UPGRADE[:40])
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def returning(stream: trio.SocketStream) -> None:
    """Subscribes to everything and disconnects; reconnects within about a second."""
    await stream.send_all(UPGRADE + _EVERYTHING)
    await stream.receive_some(100)


async def half_open(stream: trio.SocketStream) -> None:
    """Subscribes to everything, and answers no ping, like a client whose network has gone."""
    await _upgraded(stream, _EVERYTHING)


async def no_reader(stream: trio.SocketStream) -> None:
    """Subscribes to everything, and reads nothing."""
    await stream.send_all(UPGRADE + _EVERYTHING)
    await trio.sleep_forever()


async def ping_flood(stream: trio.SocketStream) -> None:
    """Sends pings without an end."""
    await _flooding(stream, frame(Op.PING, b"x" * 125) * 500)


async def command_flood(stream: trio.SocketStream) -> None:
    """Sends commands without an end, and reads no responses."""
    await _flooding(stream, _HEARTBEAT * 500)


async def fragments(stream: trio.SocketStream) -> None:
    """Sends a message in frames without an end."""
    await _flooding(stream, _GO_ON * 25, first=_BEGIN, pause=_PAUSE)


async def unfinished(stream: trio.SocketStream) -> None:
    """Begins a message, and sends pings forever."""
    await _flooding(stream, frame(Op.PING), first=_BEGIN, pause=1)


async def huge_frame(stream: trio.SocketStream) -> None:
    """Sends a frame header with a length of an exabyte."""
    head = struct.pack("!BBQ", 0x81, 0xFF, 1 << 60) + bytes(4)
    await _upgraded(stream, head, bytes(50_000), bytes(50_000))


async def many_names(stream: trio.SocketStream) -> None:
    """Sends 10,000 names in one command, then as many positions as fit into one."""
    await _upgraded(stream, _NAMES, _POSITIONS)


async def deep_json(stream: trio.SocketStream) -> None:
    """Sends JSON nested as deep as the size of a command permits."""
    await _upgraded(stream, *[_DEEP] * 20)


async def after_close(stream: trio.SocketStream) -> None:
    """Sends commands after its close frame."""
    await _flooding(stream, _HEARTBEAT * 100, first=CLOSE, pause=_PAUSE)


async def bad_frames(stream: trio.SocketStream) -> None:
    """Sends invalid UTF-8 with a reserved bit, an unknown opcode, and an unmasked frame."""
    await _upgraded(
        stream, frame(Op.TEXT, b"\xff\xfe", rsv=1), frame(3, b"x"), frame(Op.TEXT, b"x", mask=False)
    )


async def binary(stream: trio.SocketStream) -> None:
    """Sends binary frames."""
    await _upgraded(stream, frame(Op.BINARY, b"\xff" * 1000))


async def replays(stream: trio.SocketStream) -> None:
    """Resumes everything from the beginning of a partition, again and again."""
    past = command("resume", channels=["*.*"], positions={"odin.trades": {"0": 0}})
    await _flooding(stream, past)


async def forged_forwarded(stream: trio.SocketStream) -> None:
    """Opens connections of one address through a proxy, each with a forged `Forwarded`."""
    host, port = stream.socket.getpeername()
    async with trio.open_nursery() as nursery:
        for number in range(PROXIED):
            nursery.start_soon(_through_proxy, host, port, f"for=9.9.9.{number}")


async def _through_proxy(host: str, port: int, forged: str) -> None:
    headers = {"X-Forwarded-For": "8.8.8.8", "Forwarded": forged}
    # The server rejects most of them: the address already has all its connections.
    with suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(host, port, local_address=PROXY) as stream:
            await stream.send_all(request(headers=headers))
            await listen(stream)


async def ops_pipelining(stream: trio.SocketStream) -> None:
    """Requests 40 pages at once on the ops port, and reads them; reconnects in about a second."""
    await stream.send_all(_PAGE * 40)
    await listen(stream)


async def ops_no_reader(stream: trio.SocketStream) -> None:
    """Requests pages without an end on the ops port, and reads none."""
    while True:
        await stream.send_all(_PAGE * 40)
        await trio.sleep(_PAUSE)


async def ops_slow_head(stream: trio.SocketStream) -> None:
    """Sends a request head byte by byte to the ops port."""
    await _slowly(stream, _PAGE, 0.5)


def own_subscriptions() -> bytes:
    """Commands for the maximum of subscriptions, in names of 126 bytes that no other client has."""
    number = next(_numbers)
    names = [f"{number:05}{at:04}".ljust(120, "x") + ".trade" for at in range(1024)]
    # A command holds 64 KiB, so at most some 500 of these names.
    several = [command("subscribe", channels=names[at : at + 256]) for at in range(0, 1024, 256)]
    return b"".join(several)


async def own_names(stream: trio.SocketStream) -> None:
    """Subscribes to these names, and receives until the end."""
    await _upgraded(stream, own_subscriptions())


async def _asking(stream: trio.SocketStream, data: bytes, pause: float) -> None:
    """Upgrade, and send the data again and again, reading all responses."""
    await stream.send_all(UPGRADE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, stream)
        while True:
            await stream.send_all(data)
            await trio.sleep(pause)


async def snapshots(stream: trio.SocketStream) -> None:
    """Requests a snapshot of all channels 1.6 times a second."""
    await _asking(stream, _ALL_OFF + _SNAPSHOT, _SNAPSHOT_SECONDS)


async def one_snapshot(stream: trio.SocketStream) -> None:
    """Requests a snapshot of all channels once."""
    await _upgraded(stream, _SNAPSHOT)


async def resumes(stream: trio.SocketStream) -> None:
    """Resumes 1,000 names from the beginning of the log, once."""
    await _upgraded(stream, _RESUMED)


async def since(stream: trio.SocketStream) -> None:
    """Subscribes to 1,000 names with `since_ms: 0`, once."""
    await _upgraded(stream, _SINCE)


async def on_and_off(stream: trio.SocketStream) -> None:
    """Subscribes to 1,000 names and unsubscribes from them, again and again."""
    await _asking(stream, _SUBSCRIBED + _UNSUBSCRIBED, 1.0)


async def going(stream: trio.SocketStream) -> None:
    """Subscribes to 1,000 names, and disconnects after a second."""
    await stream.send_all(UPGRADE + _SUBSCRIBED)
    await trio.sleep(1)


EXPENSIVE: Final = (snapshots, one_snapshot, resumes, since, on_and_off, going)

KINDS: Final[Mapping[str, Visit]] = {
    visit.__name__: visit
    for visit in (
        slow_head,
        half_a_head,
        silent,
        endless_head,
        garbage,
        tls_hello,
        wrong_upgrade,
        vanishing,
        returning,
        half_open,
        no_reader,
        ping_flood,
        command_flood,
        fragments,
        unfinished,
        huge_frame,
        many_names,
        deep_json,
        after_close,
        bad_frames,
        binary,
        replays,
        forged_forwarded,
        ops_pipelining,
        ops_no_reader,
        ops_slow_head,
        own_names,
        *EXPENSIVE,
    )
}

# Kinds that visit the ops port.
ON_OPS_PORT: Final = frozenset({ops_pipelining, ops_no_reader, ops_slow_head})

# Kinds that reconnect within about a second after they were closed.
AT_ONCE: Final = frozenset({returning, ops_pipelining})
