"""No command of one client occupies the event loop for long, whatever it requests.

The tests count function calls instead of seconds: their number is the same on each machine.
"""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.catalogue import default_catalogue
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.connection.fakes import FakeTransport
from tests.scenarios.wire import Op, frame, request

CATALOGUE: Final = default_catalogue()
TOPICS: Final = list(CATALOGUE.topics.values())
VALUE: Final = json.dumps({"type": "", "data": "x" * 200}).encode()

# 5,000 channels, and the names of a thousand of them.
CHANNELS: Final = [(f"T{number // 8}", TOPICS[number % 8]) for number in range(5000)]
THOUSAND: Final = [f"{token}.{topic.category}" for token, topic in CHANNELS[:1000]]
NOTHING_RECEIVED: Final = {
    topic.name: {str(number): -1 for number in range(12)} for topic in TOPICS
}

# A time slice has at most 4 steps of 64 items, and an item takes some calls. The largest work that
# cannot be divided is to make 1,000 names live, or to read a chunk of 64 KiB for a client.
MAX_CALLS: Final = 20_000


class CallCounter(trio.abc.Instrument):
    """Counts function calls in each step of each task; `maximum` and `task`: the longest step."""

    def __init__(self) -> None:
        self.maximum = 0
        self.task = ""
        self._calls = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 -- as trio calls it
        """A step of the task begins."""
        self._calls = 0
        sys.setprofile(self._count)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """The step ends."""
        sys.setprofile(None)
        if self._calls > self.maximum:
            self.maximum, self.task = self._calls, task.name

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self._calls += event in {"call", "c_call"}


@contextmanager
def counted() -> Iterator[CallCounter]:
    """Count the calls of all tasks during the block."""
    counter = CallCounter()
    trio.lowlevel.add_instrument(counter)
    try:
        yield counter
    finally:
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(counter)


def command(kind: str, **data: Any) -> bytes:
    """Return a command in its frame."""
    return frame(Op.TEXT, json.dumps({"type": kind, "data": data}).encode())


def everything(kind: str = "subscribe", **data: Any) -> bytes:
    """Return a command about all channels."""
    return command(kind, channels=["*.*"], **data)


def thousand(kind: str = "subscribe", **data: Any) -> bytes:
    """Return a command about 1,000 names."""
    return command(kind, channels=THOUSAND, **data)


@asynccontextmanager
async def five_thousand_channels() -> AsyncIterator[Scenario]:
    """Run a server that has a message of each of 5,000 channels."""
    log = MemoryLog(CATALOGUE.topics, 12)
    settings = Settings(ws_max_kafka_rate=0.0, ws_command_burst=10_000)
    async with open_scenario(settings, log=log) as scenario:
        for token, topic in CHANNELS:
            log.append(topic.name, token.encode(), VALUE)
        await trio.sleep(5)
        assert len(scenario.service.hub.snapshots) == len(CHANNELS)
        yield scenario


async def most_calls(scenario: Scenario, before: Sequence[bytes], sent: bytes) -> tuple[int, str]:
    """Return the calls of the longest step until the command is answered, and its task."""
    wire = FakeTransport([request(), *before])
    await scenario.attach(wire)
    await wait_all_tasks_blocked(0.01)
    with counted() as work:
        wire.put(sent)
        await trio.sleep(1)
    assert b'"type":"error"' not in wire.sent
    wire.put(b"")
    return work.maximum, work.task


COMMANDS: Final[dict[str, tuple[Sequence[bytes], bytes]]] = {
    "snapshot of everything": ((), everything(snapshot=True)),
    "snapshot beside live": ((everything(),), everything(snapshot=True)),
    "snapshot again": ((everything(),), everything("unsubscribe") + everything(snapshot=True)),
    "snapshot of a thousand": ((), thousand(snapshot=True)),
    "everything since": ((), everything(since_ms=0)),
    "everything since, beside live": ((thousand(),), everything(since_ms=0)),
    "a thousand since": ((), thousand(since_ms=0)),
    "resume everything": ((), everything("resume", positions=NOTHING_RECEIVED)),
    "resume a thousand": ((), thousand("resume", positions=NOTHING_RECEIVED)),
    "resume a thousand with snapshot": (
        (),
        thousand("resume", positions=NOTHING_RECEIVED, snapshot=True),
    ),
    "reconnect a thousand": ((), command("reconnect", last_pos=dict.fromkeys(THOUSAND, "0-0"))),
    "subscribe to a thousand": ((), thousand()),
    "subscribe to tokens of a topic": (
        (),
        command("subscribe", topics=["odin.trades"], tokens=[f"T{n}" for n in range(1000)]),
    ),
    "unsubscribe from a thousand": ((thousand(),), thousand("unsubscribe")),
    "unsubscribe from what is unknown": ((), thousand("unsubscribe")),
    "unsubscribe from what comes": (
        (),
        thousand("resume", positions=NOTHING_RECEIVED) + thousand("unsubscribe"),
    ),
    "unsubscribe from what waits": (
        (),
        everything(snapshot=True) + thousand(snapshot=True) * 3 + thousand("unsubscribe"),
    ),
    "leave with a thousand": ((thousand(),), frame(Op.CLOSE, b"\x03\xe8")),
}


@pytest.mark.parametrize("what", COMMANDS)
async def test_work_of_one_command_is_divided_into_time_slices(
    autojump_clock: trio.testing.MockClock, what: str
) -> None:
    """No step of a task has more calls than a time slice allows."""
    async with five_thousand_channels() as scenario:
        maximum, task = await most_calls(scenario, *COMMANDS[what])
    assert maximum <= MAX_CALLS, task


async def test_resend_searches_messages_in_time_slices(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The client requests the last of 5,000 messages that it was sent."""
    async with five_thousand_channels() as scenario:
        wire = FakeTransport([request() + everything()])
        await scenario.attach(wire)
        await wait_all_tasks_blocked(0.01)
        for token, topic in CHANNELS:
            scenario.log.append(topic.name, token.encode(), VALUE)
        await trio.sleep(5)
        with counted() as work:
            wire.put(command("replay", **{"from": 5000, "to": 5000}))
            await trio.sleep(1)
        assert b'"type":"replay_complete","count":1' in wire.sent
        wire.put(b"")
    assert work.maximum <= MAX_CALLS, work.task
