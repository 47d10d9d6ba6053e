"""A client's subscriptions with all that is around them made plain: a log, a hub and a wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.auth.grants import full_grant
from odin_ws.catalogue import default_catalogue
from odin_ws.connection.send_queue import SendQueue
from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.commands import Auth, Heartbeat, Unsubscribe, decode_command
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.frames import text_frame
from odin_ws.protocol.responses import error_response
from odin_ws.protocol.selection import RejectedName
from odin_ws.records import Assignment, HistoryEnd
from odin_ws.resume import ReplayContext, ReplayLimits, ScanPool
from odin_ws.session.subscription_limits import SubscriptionLimits
from odin_ws.session.subscriptions import Subscriptions
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.time_slice import TimeSlice, Turn
from tests.connection.fakes import FakeTransport
from tests.hub.hub_driver import Feeder, dispatching, make_hub
from tests.wire_decoder import messages

__all__ = ["CATALOGUE", "GRACE", "HELD", "MARK", "STUCK", "House", "Talker", "open_house"]

CATALOGUE: Final = default_catalogue()
GRACE: Final = 10.0
MARK: Final = 500
HELD: Final = 2000
STUCK: Final = 60.0


class House:
    """A log of two partitions, its archive, and a hub that reads it."""

    def __init__(  # noqa: PLR0913, PLR0917 -- one of each of what it is made of
        self,
        nursery: trio.Nursery,
        log: MemoryLog,
        hub: Hub,
        feeder: Feeder,
        patterns: int,
        turn: Turn,
    ) -> None:
        self.log = log
        self.value = json.dumps({"type": "", "data": {}}).encode()
        self.hub = hub
        self.log_reader = MemoryLogReader(log)
        scans = ScanPool(hub, self.log_reader, 4, turn, turn)
        nursery.start_soon(scans.run)
        self.context = ReplayContext(hub, scans.log_reader, ReplayLimits(1000), scans)
        self.feeder = feeder
        self.nursery = nursery
        self.limits = SubscriptionLimits(patterns, MARK, HELD, GRACE, STUCK)

    async def publish(self, *tokens: str, category: str = "trade") -> None:
        """One record of each token, in partition 0, and let the hub deliver them."""
        topic = CATALOGUE.categories[category].name
        await self.feeder.publish(
            *(self.log.append(topic, one.encode(), self.value, partition=0) for one in tokens)
        )


class Talker:
    """A connection without its head and frames; `received` is all that it was sent.

    `takes`: how many bytes the wire takes until `take`; None: any number.
    """

    def __init__(self, house: House, takes: int | None = None) -> None:
        self.transport = FakeTransport(room=takes)
        self.tasks = 0
        self.charged = 0
        self.slow = False
        self.replaying = False
        self.rejected: list[ErrorCode] = []
        self._hub = house.hub
        self._turn = house.context.scans.wait_for_chunk
        self._nursery = house.nursery
        self._idle = trio.Event()
        self.send_queue = SendQueue(
            self.transport,
            limit=1 << 30,
            grace=GRACE,
            wake=self._wake,
            slow=self.close_as_slow,
            idle=self._is_drained,
        )
        self.subscriber = Subscriber(self.send_queue.write)
        self.grant = full_grant(CATALOGUE)
        self.subscriptions = Subscriptions(self, house.context, house.limits, self)

    # ---- for the test

    @property
    def received(self) -> list[dict[str, Any]]:
        """Messages and answers, in order."""
        return messages(bytes(self.transport.sent))

    @property
    def kinds(self) -> list[str]:
        """The place of each message and the type of each answer, in order."""
        return [one.get("pos", one["type"]) for one in self.received]

    def say(self, kind: str, command_id: int | None = None, **data: Any) -> None:
        """Send a command; nothing waits, so nothing that takes time has been done yet.

        What takes more than one time slice goes on in a task.
        """
        saying = self._say(kind, command_id, data)
        try:
            saying.send(None)
        except StopIteration:
            return
        saying.close()
        raise AssertionError(f"{kind} takes more than a time slice: say_on")

    async def say_on(self, kind: str, command_id: int | None = None, **data: Any) -> None:
        """Send a command, and wait until it was begun, over as many time slices as that takes."""
        await self._say(kind, command_id, data)

    async def _say(self, kind: str, command_id: int | None, data: dict[str, Any]) -> None:
        text = json.dumps({"type": kind, "id": command_id, "data": data})
        try:
            command = decode_command(text, CATALOGUE)
            assert not isinstance(command, Auth | Heartbeat)
            time_slice = TimeSlice(self._turn)
            if isinstance(command, Unsubscribe):
                await self.subscriptions.end(command, time_slice)
            else:
                await self.subscriptions.begin(command, time_slice)
        except CommandError as error:
            self.reject_command(error)

    async def restrict(self) -> None:
        """End what `grant` does not grant, as after a new token."""
        await self.subscriptions.restrict(TimeSlice(self._turn))

    async def ask(self, kind: str, command_id: int | None = None, **data: Any) -> dict[str, Any]:
        """Send a command and return the first that comes then, without time passing."""
        before = len(self.received)
        self.say(kind, command_id, **data)
        await wait_all_tasks_blocked()
        return self.received[before]

    def take(self, size: int = 1 << 30) -> None:
        """Let the wire take so many bytes more."""
        self.transport.make_room(size)

    # ---- for the subscriptions: see Client and Answers

    async def drained(self) -> None:
        """Wait until the wire has taken all."""
        await trio.lowlevel.checkpoint()
        while not self.send_queue.empty:
            await self._idle.wait()

    def went_live(self, topics: Sequence[str]) -> None:
        """Nothing changes."""

    def charge(self, messages: int) -> None:
        """Keep what commands have brought."""
        self.charged += messages

    def count_rejected_names(self, names: Iterable[RejectedName]) -> None:
        """Keep why names did not take effect."""
        self.rejected += [one.code for one in names]

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run it, one at a time."""
        assert not self.replaying
        self.tasks += 1
        self.replaying = True
        self._nursery.start_soon(self._run, task)

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        await task()
        self.replaying = False

    def respond(self, payload: bytes) -> None:
        """After all that is due."""
        self._hub.flush(self.subscriber)
        self.send_queue.write(text_frame(payload))

    def reject_command(self, error: CommandError) -> None:
        """Likewise."""
        self.respond(error_response(error))

    def _wake(self) -> None:
        self._nursery.start_soon(self.send_queue.drain)

    def close_as_slow(self) -> None:
        """Be closed as slow."""
        self.slow = True
        self.send_queue.finish(b"", flush=True)

    def _is_drained(self) -> None:
        self._idle.set()
        self._idle = trio.Event()
        self._hub.release(self.subscriber)


@asynccontextmanager
async def open_house(
    *,
    patterns: int = 1024,
    retention_bytes: int = 1 << 30,
    history_loaded: bool = True,
    turn: Turn = trio.lowlevel.checkpoint,
) -> AsyncIterator[House]:
    """Run the hub for the length of the block.

    `history_loaded`: it knows where it is. `turn`: what a client's work waits for after each time
    slice.
    """
    log = MemoryLog(CATALOGUE.topics, 2)
    hub = make_hub(retention_bytes=retention_bytes)
    async with trio.open_nursery() as nursery, dispatching(hub) as feeder:
        await feeder.publish(Assignment(dict.fromkeys(log.ends(), -1)))
        if history_loaded:
            await feeder.publish(HistoryEnd())
        yield House(nursery, log, hub, feeder, patterns, turn)
        nursery.cancel_scope.cancel()
