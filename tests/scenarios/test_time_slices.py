"""What one client asks for never keeps the event loop for long, however much it asks for.

Work is counted in calls of Python's functions, not in seconds: the same on every machine.
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
PAST: Final = {topic.name: {str(one): -1 for one in range(12)} for topic in TOPICS}

# In a time slice are 4 steps of 64 items at most, and an item takes some calls. What has to be done
# at once is to make a thousand names live, or to read a chunk of 64 KiB for a client.
MOST_CALLS: Final = 20_000


class Work(trio.abc.Instrument):
    """Counts calls of functions in each step of each task. `maximum`: in one step."""

    def __init__(self) -> None:
        self.maximum = 0
        self.most_of = ""
        self._calls = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 -- as trio calls it
        """A task goes on."""
        self._calls = 0
        sys.setprofile(self._count)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits, or has ended."""
        sys.setprofile(None)
        if self._calls > self.maximum:
            self.maximum, self.most_of = self._calls, task.name

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self._calls += event in {"call", "c_call"}


@contextmanager
def counted() -> Iterator[Work]:
    """Count the calls of all tasks for the length of the block."""
    work = Work()
    trio.lowlevel.add_instrument(work)
    try:
        yield work
    finally:
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(work)


def command(kind: str, **data: Any) -> bytes:
    """A command in its frame."""
    return frame(Op.TEXT, json.dumps({"type": kind, "data": data}).encode())


def everything(kind: str = "subscribe", **data: Any) -> bytes:
    """A command about all channels."""
    return command(kind, channels=["*.*"], **data)


def thousand(kind: str = "subscribe", **data: Any) -> bytes:
    """A command about a thousand names."""
    return command(kind, channels=THOUSAND, **data)


@asynccontextmanager
async def five_thousand_channels() -> AsyncIterator[Scenario]:
    """A server that knows a message of each."""
    log = MemoryLog(CATALOGUE.topics, 12)
    settings = Settings(ws_max_kafka_rate=0.0, ws_command_burst=10_000)
    async with open_scenario(settings, log=log) as scenario:
        for token, topic in CHANNELS:
            log.append(topic.name, token.encode(), VALUE)
        await trio.sleep(5)
        assert len(scenario.service.hub.snapshots) == len(CHANNELS)
        yield scenario


async def most_calls(scenario: Scenario, before: Sequence[bytes], asked: bytes) -> tuple[int, str]:
    """The calls of the longest step until all is answered, and the task that they were in."""
    wire = FakeTransport([request(), *before])
    await scenario.attach(wire)
    await wait_all_tasks_blocked(0.01)
    with counted() as work:
        wire.put(asked)
        await trio.sleep(1)
    assert b'"type":"error"' not in wire.sent
    wire.put(b"")
    return work.maximum, work.most_of


ASKED: Final[dict[str, tuple[Sequence[bytes], bytes]]] = {
    "snapshot of everything": ((), everything(snapshot=True)),
    "snapshot beside live": ((everything(),), everything(snapshot=True)),
    "snapshot again": ((everything(),), everything("unsubscribe") + everything(snapshot=True)),
    "snapshot of a thousand": ((), thousand(snapshot=True)),
    "everything since": ((), everything(since_ms=0)),
    "everything since, beside live": ((thousand(),), everything(since_ms=0)),
    "a thousand since": ((), thousand(since_ms=0)),
    "resume everything": ((), everything("resume", positions=PAST)),
    "resume a thousand": ((), thousand("resume", positions=PAST)),
    "resume a thousand with snapshot": ((), thousand("resume", positions=PAST, snapshot=True)),
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
        thousand("resume", positions=PAST) + thousand("unsubscribe"),
    ),
    "unsubscribe from what waits": (
        (),
        everything(snapshot=True) + thousand(snapshot=True) * 3 + thousand("unsubscribe"),
    ),
    "leave with a thousand": ((thousand(),), frame(Op.CLOSE, b"\x03\xe8")),
}


@pytest.mark.parametrize("what", ASKED)
async def test_work_of_one_client_is_cut_into_time_slices(
    autojump_clock: trio.testing.MockClock, what: str
) -> None:
    """Between two yields of its tasks there are no more calls than in a time slice."""
    async with five_thousand_channels() as scenario:
        maximum, task = await most_calls(scenario, *ASKED[what])
    assert maximum <= MOST_CALLS, task


async def test_what_is_sent_again_is_looked_for_in_time_slices(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of 5,000 messages that a client was sent only one is asked for, behind all others."""
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
    assert work.maximum <= MOST_CALLS, work.most_of
