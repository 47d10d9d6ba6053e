"""One client's subscriptions over an in-memory log, a hub and a fake transport."""

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
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Auth, Heartbeat, Unsubscribe
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.frames import text_frame
from odin_ws.protocol.responses import error_response
from odin_ws.protocol.selection import RejectedName
from odin_ws.records import Assignment, HistoryEnd
from odin_ws.resume import ReplayContext, ReplayLimits, ScanPool
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.session.subscriptions import Subscriptions
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.time_slice import TimeSlice, Turn
from tests.connection.fakes import FakeTransport
from tests.hub.hub_driver import Feeder, dispatching, make_hub
from tests.wire_decoder import messages

__all__ = ["CATALOGUE", "GRACE", "HELD", "MARK", "STUCK", "FakeClient", "Harness", "open_harness"]

CATALOGUE: Final = default_catalogue()
GRACE: Final = 10.0
MARK: Final = 500
HELD: Final = 2000
STUCK: Final = 60.0


class Harness:
    """A log of two partitions, its log reader, and a hub that dispatches its records."""

    def __init__(  # noqa: PLR0913, PLR0917 -- one argument for each part
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
        """Publish one record per token to partition 0, and dispatch them."""
        topic = CATALOGUE.categories[category].name
        await self.feeder.publish(
            *(self.log.append(topic, token.encode(), self.value, partition=0) for token in tokens)
        )


class FakeClient:
    """A connection without request head and frame parsing; `received` has all that it was sent.

    `room`: the bytes that the transport accepts until `make_room`; None: any number.
    """

    def __init__(self, harness: Harness, room: int | None = None) -> None:
        self.transport = FakeTransport(room=room)
        self.tasks = 0
        self.charged = 0
        self.slow = False
        self.replaying = False
        self.rejected: list[ErrorCode] = []
        self._hub = harness.hub
        self._turn = harness.context.scans.wait_for_chunk
        self._nursery = harness.nursery
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
        self.subscriptions = Subscriptions(self, harness.context, harness.limits, self)

    # ---- called by tests

    @property
    def received(self) -> list[dict[str, Any]]:
        """Messages and responses, in order."""
        return messages(bytes(self.transport.sent))

    @property
    def kinds(self) -> list[str]:
        """The position of each message and the type of each response, in order."""
        return [message.get("pos", message["type"]) for message in self.received]

    def send(self, kind: str, command_id: int | None = None, **data: Any) -> None:
        """Process a command without waiting; a replay has not done its first step yet.

        Raises AssertionError if the command takes more than one time slice: then use `send_long`.
        """
        processing = self._process(kind, command_id, data)
        try:
            processing.send(None)
        except StopIteration:
            return
        processing.close()
        raise AssertionError(f"{kind} takes more than a time slice: send_long")

    async def send_long(self, kind: str, command_id: int | None = None, **data: Any) -> None:
        """Process a command, waiting after each of its time slices."""
        await self._process(kind, command_id, data)

    async def _process(self, kind: str, command_id: int | None, data: dict[str, Any]) -> None:
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
        """End the subscriptions outside of `grant`, as after a new credential."""
        await self.subscriptions.restrict(TimeSlice(self._turn))

    async def request(
        self, kind: str, command_id: int | None = None, **data: Any
    ) -> dict[str, Any]:
        """Send a command and return the first message that follows, without time passing."""
        before = len(self.received)
        self.send(kind, command_id, **data)
        await wait_all_tasks_blocked()
        return self.received[before]

    def make_room(self, size: int = 1 << 30) -> None:
        """Let the transport accept this many more bytes."""
        self.transport.make_room(size)

    # ---- called by Subscriptions: the protocols Client and Answers

    async def drained(self) -> None:
        """Wait until the transport has taken every pending byte."""
        await trio.lowlevel.checkpoint()
        while not self.send_queue.empty:
            await self._idle.wait()

    @property
    def written(self) -> int:
        """What was written to it, queued or not."""
        return self.send_queue.bytes_sent + self.send_queue.backlog

    def acknowledged(self) -> int:
        """All that the wire has taken."""
        return self.send_queue.bytes_sent

    def went_live(self, topics: Sequence[str]) -> None:
        """Ignore it: only the feed status depends on the topics."""

    def charge(self, messages: int) -> None:
        """Add up the messages that commands have caused."""
        self.charged += messages

    def count_rejected_names(self, names: Iterable[RejectedName]) -> None:
        """Keep the error codes of names without effect."""
        self.rejected += [name.code for name in names]

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a replay task; there is at most one."""
        assert not self.replaying
        self.tasks += 1
        self.replaying = True
        self._nursery.start_soon(self._run, task)

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        await task()
        self.replaying = False

    def respond(self, payload: bytes) -> None:
        """Send a response after all pending messages."""
        self._hub.flush(self.subscriber)
        self.send_queue.write(text_frame(payload))

    def reject_command(self, error: CommandError) -> None:
        """Send an error response after all pending messages."""
        self.respond(error_response(error))

    def _wake(self) -> None:
        self._nursery.start_soon(self.send_queue.drain)

    def close_as_slow(self) -> None:
        """Note that the client is closed as slow."""
        self.slow = True
        self.send_queue.finish(b"", flush=True)

    def _is_drained(self) -> None:
        self._idle.set()
        self._idle = trio.Event()
        self._hub.release(self.subscriber)


@asynccontextmanager
async def open_harness(
    *,
    patterns: int = 1024,
    retention_bytes: int = 1 << 30,
    history_loaded: bool = True,
    turn: Turn = trio.lowlevel.checkpoint,
) -> AsyncIterator[Harness]:
    """Run a hub for the length of the block.

    `history_loaded`: whether the hub has read its history. `turn`: awaited after each time slice of
    a command.
    """
    log = MemoryLog(CATALOGUE.topics, 2)
    hub = make_hub(retention_bytes=retention_bytes)
    async with trio.open_nursery() as nursery, dispatching(hub) as feeder:
        await feeder.publish(Assignment(dict.fromkeys(log.ends(), -1)))
        if history_loaded:
            await feeder.publish(HistoryEnd())
        yield Harness(nursery, log, hub, feeder, patterns, turn)
        nursery.cancel_scope.cancel()
