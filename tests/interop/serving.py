"""A server on a port, and clients of other libraries that are programs of their own.

A client opens connections, offers permessage-deflate, subscribes on each, prints "ready", and when
each has had so many texts besides the answer it prints one line of JSON: what the server agreed to,
and the texts of each connection.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Any, Final

import attrs
import trio

from odin_ws.address import Address
from odin_ws.assembly import Upstream
from odin_ws.catalogue import default_catalogue
from odin_ws.kafka.source_status import SourceState
from odin_ws.serve import serve
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK

__all__ = ["CONNECTIONS", "Found", "Server", "exchange", "serving"]

# As many as share a message before it is compressed (odin_ws.hub.packing).
CONNECTIONS: Final = 20

# Seconds for what takes milliseconds on a free machine.
_PATIENCE: Final = 60

_SETTINGS: Final = Settings(
    ws_addr=Address(LOOPBACK, 0), ws_ops_addr=Address(LOOPBACK, 0), ws_drain_delay_seconds=0
)


@attrs.frozen
class Server:
    """A running server. `url`: where its WebSocket is; `log`: what it reads."""

    url: str
    log: MemoryLog

    def publish(self, count: int) -> list[dict[str, Any]]:
        """Publish records of one token; returns their values."""
        values = []
        for number in range(count):
            data = {"number": number, "price": f"0.{number:08d}", "text": "Grüße 🚀 %d" * 10}
            value = {"type": "TRADE_EXECUTED", "timestamp": 1767609600000, "data": data}
            self.log.append("odin.trades", b"BTC", json.dumps(value).encode())
            values.append(value)
        return values


@attrs.frozen
class Found:
    """What a client had. `messages`: of each connection, batches taken apart."""

    extensions: str
    messages: list[list[dict[str, Any]]]


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Run a server for the length of the block."""
    log = MemoryLog(default_catalogue().topics, partitions=3)
    source = MemorySource(log, history_seconds=0, history_records=0)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        upstream = Upstream(source, MemoryLogReader(log))
        addresses = await nursery.start(serve, _SETTINGS, default_catalogue(), upstream, stop)
        await source.status.state.wait_value(SourceState.LIVE)
        yield Server(f"ws://{addresses.subscribers}/ws", log)
        stop.set()


async def exchange(
    server: Server, client: Sequence[str], frames: str, count: int, extra: Sequence[str] = ()
) -> tuple[Found, list[dict[str, Any]]]:
    """Run a client program, publish when it is ready.

    Returns what it had, and the values that were published. `extra`: more arguments of the program.
    """
    command = {"type": "subscribe", "data": {"channels": ["*.trade"], "frames": frames}}
    # All records of one append are dispatched together, and so are one batch.
    texts = 1 if frames == "batch" else count
    arguments = [server.url, json.dumps(command), str(CONNECTIONS), str(texts), *extra]
    with trio.fail_after(_PATIENCE):
        process = await trio.lowlevel.open_process([*client, *arguments], stdout=PIPE)
        try:
            assert process.stdout is not None
            output, values = b"", list[dict[str, Any]]()
            async for some in process.stdout:
                if b"ready" in some and not output:
                    values = server.publish(count)
                output += some
            assert await process.wait() == 0
        finally:
            process.kill()
    ready, line = output.decode().splitlines()
    assert ready == "ready"
    found = json.loads(line)
    messages = [_messages(texts) for texts in found["texts"]]
    return Found(found["extensions"], messages), values


def _messages(texts: Sequence[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for text in texts:
        one = json.loads(text)
        if one["type"] == "batch":
            messages.extend(
                {"seq": one["seq"] + number} | body for number, body in enumerate(one["messages"])
            )
        else:
            messages.append(one)
    return messages
