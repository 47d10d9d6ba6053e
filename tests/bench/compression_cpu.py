"""CPU of the hub per message with and without compression, in turns in one process.

Two runs of `odin-ws bench bytes` differ by a fifth on a busy machine, more than the effect of
compression. This module writes cycles of all kinds in turns, to TCP sockets that another process
reads: `python -m tests.bench.compression_cpu [ROUNDS]`.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

import click
import trio
import trio.testing

from odin_ws.connection.send_queue import SendQueue
from odin_ws.hub import Dispatcher, Hub, Subscriber
from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.listener.transport import SocketTransport
from odin_ws.protocol.wire_format import Frames, wire_format
from odin_ws.records import Assignment, Batch, Item, Record, TopicPartition
from odin_ws.testing.ports import LOOPBACK
from tests.bench.hot_path import TOKEN, TOPIC, make_hub

__all__ = ["measure"]

CLIENTS: Final = 1000
RECORDS: Final = 10
CYCLES: Final = 5

FORMS: Final = {
    "single": wire_format(),
    "single, deflate": wire_format(window_bits=15),
    "batch": wire_format(frames=Frames.BATCH),
    "batch, deflate": wire_format(frames=Frames.BATCH, window_bits=15),
}


def _records(first: int, chance: random.Random) -> list[Record]:
    values = [
        {
            "type": "TRADE_EXECUTED",
            "timestamp": 1767609600000 + first,
            "data": {
                "price": f"{chance.random() * 1e5:.6f}",
                "trader": f"user_{chance.randrange(10**6)}",
                "tx": f"{chance.getrandbits(256):x}",
                "note": chance.choice(("buy", "sell", "swap")),
            },
        }
        for _ in range(RECORDS)
    ]
    return [
        Record(TOPIC, 0, first + number, 0, TOKEN.encode(), json.dumps(value).encode())
        for number, value in enumerate(values)
    ]


def _read_everything(address: tuple[str, int], clients: int) -> None:
    """Connect, and read until a connection ends."""
    connections = [socket.create_connection(address) for _ in range(clients)]
    by_descriptor = {connection.fileno(): connection for connection in connections}
    with select.epoll() as epoll:
        for descriptor in by_descriptor:
            epoll.register(descriptor, select.EPOLLIN)
        while all(by_descriptor[one].recv(1 << 18) for one, _ in epoll.poll()):
            pass


@contextmanager
def _sockets(clients: int) -> Iterator[Sequence[socket.socket]]:
    """Yield sockets whose other ends a child process reads, until the end of the block."""
    with socket.create_server((LOOPBACK, 0), backlog=clients) as listening:
        child = os.fork()
        if not child:
            _read_everything(listening.getsockname(), clients)
            os._exit(0)
        accepted = [listening.accept()[0] for _ in range(clients)]
        try:
            yield accepted
        finally:
            for one in accepted:
                one.close()
            os.waitpid(child, 0)


async def measure(clients: int, rounds: int) -> dict[str, list[float]]:
    """Return the microseconds of CPU per message of each round, by kind of frames."""
    found: dict[str, list[float]] = {name: [] for name in FORMS}
    chance, scheduler = random.Random(3), ReadScheduler(lambda: 0.0)  # noqa: S311 -- made-up data
    with _sockets(clients) as sockets:
        hub, subscribers = make_hub(), list[Subscriber]()
        for number, one in enumerate(sockets):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            queue = SendQueue(
                SocketTransport(one, scheduler),
                limit=1 << 20,
                grace=10.0,
                wake=_do_nothing,
                slow=_do_nothing,
                idle=_do_nothing,
            )
            subscribers.append(Subscriber(queue.write))
            hub.subscribe(subscribers[-1], [f"{TOKEN}.trade"])
            subscribers[-1].seq = 1_000_000 + number
        send, inbox = trio.open_memory_channel[Item](10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Dispatcher(hub).run, inbox)
            send.send_nowait(Assignment({TopicPartition(TOPIC, 0): -1}))
            for number in range(rounds + 1):
                for name, form in FORMS.items():
                    for subscriber in subscribers:
                        subscriber.form = form
                    took = await _cycles(hub, send, chance)
                    # The first round fills caches.
                    if number:
                        found[name].append(took / (CYCLES * RECORDS * clients) * 1e6)
            nursery.cancel_scope.cancel()
    return found


async def _cycles(hub: Hub, send: trio.MemorySendChannel[Item], chance: random.Random) -> float:
    """Dispatch some cycles; returns their CPU seconds."""
    took = 0.0
    for _ in range(CYCLES):
        records = _records(hub.stats.received[TOPIC], chance)
        await trio.testing.wait_all_tasks_blocked()
        begun = time.thread_time()
        send.send_nowait(Batch(records))
        await trio.testing.wait_all_tasks_blocked()
        took += time.thread_time() - begun
        # Time for the readers to empty the sockets.
        await trio.sleep(0.05)
    return took


def _do_nothing() -> None:
    """Ignore a slow connection: no queue is slow in this measurement."""


def main() -> None:
    """Measure and print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    found = trio.run(measure, CLIENTS, rounds)
    plain = median(found["single"])
    for name, took in found.items():
        click.echo(f"{name:16}{median(took):6.2f} us  {median(took) / plain:.2f} x")


if __name__ == "__main__":
    main()
