"""Dead letters are written beside the feed, which never waits for them."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.kafka import dead_letters
from odin_ws.kafka.dead_letters import DeadLetterQueue
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.records import Record
from tests.factories import record


class Broker:
    """What every producer of a test writes to.

    `rejects`: what the next writes raise; `away`: the same of starts. `hangs_after`: so many are
    written, and the next are not answered.
    """

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes | None, bytes | None, dict[str, bytes]]] = []
        self.rejects: list[Exception] = []
        self.away: list[Exception] = []
        self.hangs_after = math.inf

    def __call__(self, **_options: Any) -> Broker:
        """Make a producer of it."""
        return self

    async def start(self) -> None:
        """Connect."""
        if self.away:
            raise self.away.pop()

    async def stop(self) -> None:
        """Leave."""

    async def send_and_wait(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """Write a record."""
        if self.rejects:
            raise self.rejects.pop()
        assert key is not None or value is not None
        if len(self.written) >= self.hangs_after:
            await asyncio.get_running_loop().create_future()
        self.written.append((topic, key, value, dict(headers)))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker in the place of Kafka."""
    broker = Broker()
    monkeypatch.setattr(dead_letters, "AIOKafkaProducer", broker)

    async def nobody(_security: KafkaSecurity, _seconds: float) -> None:
        return None

    monkeypatch.setattr(KafkaSecurity, "rejection_reason", nobody)
    return broker


@pytest.fixture
def dead() -> DeadLetterQueue:
    """Letters to a topic called `dead`."""
    return DeadLetterQueue(KafkaSecurity(("nowhere:1",)), "dead", "here")


async def write(dead: DeadLetterQueue, *records: Record) -> None:
    """Put records in while the writer runs, and let it write them."""
    async with dead.running():
        for one in records:
            dead.put(one, InvalidRecord.NOT_JSON)


async def test_a_letter_has_the_record_as_it_was(broker: Broker, dead: DeadLetterQueue) -> None:
    """Key and value byte for byte; headers say why, from where, when, and who wrote it."""
    await write(dead, record(b"B\xff", b"{\x00", partition=3, offset=17))
    ((topic, key, value, headers),) = broker.written
    assert (topic, key, value) == ("dead", b"B\xff", b"{\x00")
    assert headers == {
        "odin-ws.reason": b"not_json",
        "odin-ws.topic": b"odin.trades",
        "odin-ws.partition": b"3",
        "odin-ws.offset": b"17",
        "odin-ws.timestamp": str(record().timestamp).encode(),
        "odin-ws.instance": b"here",
    }
    assert (dead.stats.written, dead.stats.failed, dead.stats.dropped) == (1, 0, 0)


async def test_what_waits_at_the_end_is_written(broker: Broker, dead: DeadLetterQueue) -> None:
    """A drain lets go of no letter that the broker would take."""
    await write(dead, *(record(offset=offset) for offset in range(950)))
    assert len(broker.written) == dead.stats.written == 950


async def test_a_record_of_nothing_is_a_letter(broker: Broker, dead: DeadLetterQueue) -> None:
    """Aiokafka cannot write one without key and value: its value is empty then."""
    await write(dead, record(None, None))
    assert broker.written[0][1:3] == (None, b"")


async def test_a_tombstone_is_no_mistake(dead: DeadLetterQueue) -> None:
    """It is how compacted topics forget a key."""
    dead.put(record(value=None), InvalidRecord.TOMBSTONE)
    assert (dead.stats.written, dead.stats.dropped) == (0, 0)


@pytest.mark.parametrize(("size", "room"), [(10, 1000), (1 << 20, 15)])
async def test_what_there_is_no_room_for_is_counted(
    size: int, room: int, broker: Broker, dead: DeadLetterQueue
) -> None:
    """By number and by bytes; what is written makes room again."""
    for _ in range(room + 5):
        dead.put(record(b"k", b"x" * size), InvalidRecord.NOT_JSON)
    assert dead.stats.dropped == 5
    async with dead.running():
        pass
    assert len(broker.written) == room


async def test_what_is_lost_at_the_end_is_told(
    broker: Broker, dead: DeadLetterQueue, autojump_clock: MockClock
) -> None:
    """One warning counts all that the broker did not take in time: asked of it, and waiting."""
    broker.hangs_after = 130
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(950)))
    assert [line["event"] for line in logs] == ["dead letters lost"]
    assert (logs[0]["log_level"], logs[0]["topic"]) == ("warning", "dead")
    # Of a hundred that are handed over together nobody knows which were written.
    assert (logs[0]["letters"], len(broker.written)) == (850, 130)
    assert (dead.stats.written, dead.stats.failed) == (100, 850)


async def test_what_no_broker_was_there_for_is_told(
    broker: Broker, dead: DeadLetterQueue, autojump_clock: MockClock
) -> None:
    """The reason before, and how many at the end."""
    broker.away = [KafkaConnectionError("away")] * 1000
    with capture_logs() as logs:
        await write(dead, record(), record())
    assert [line["event"] for line in logs] == [
        "dead letters not written",
        "dead letters lost",
    ]
    assert logs[-1]["letters"] == dead.stats.failed == 2


async def test_a_stop_at_once_tells_it_too(broker: Broker, dead: DeadLetterQueue) -> None:
    """A second signal cancels everything, with letters waiting."""
    broker.hangs_after = 0
    with capture_logs() as logs, trio.CancelScope() as scope:
        async with dead.running():
            dead.put(record(), InvalidRecord.NO_KEY)
            scope.cancel()
            await trio.sleep_forever()
    assert [(line["event"], line["letters"]) for line in logs] == [("dead letters lost", 1)]


@pytest.mark.parametrize("error", [MessageSizeTooLargeError("x"), KafkaConnectionError("gone")])
async def test_a_letter_that_is_rejected_is_counted_and_told_of_once(
    error: Exception, broker: Broker, dead: DeadLetterQueue
) -> None:
    """Others are written all the same."""
    broker.rejects = [error, error]
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(5)))
    assert (dead.stats.written, dead.stats.failed) == (3, 2)
    assert [line["event"] for line in logs] == ["dead letters not written"]


async def test_a_broker_that_is_away_keeps_the_letters_waiting(
    broker: Broker, dead: DeadLetterQueue
) -> None:
    """It is tried again with back-off; both states are told once."""
    broker.away = [KafkaConnectionError("away"), OSError("away")]
    with capture_logs() as logs:
        async with dead.running():
            dead.put(record(), InvalidRecord.NO_KEY)
            with trio.fail_after(10):
                while not broker.written:  # noqa: ASYNC110 -- the fake tells nobody
                    await trio.sleep(0.01)
    assert dead.stats.written == 1
    assert [line["event"] for line in logs] == [
        "dead letters not written",
        "dead letters written again",
    ]


async def test_a_bug_is_not_hidden(broker: Broker, dead: DeadLetterQueue) -> None:
    """Whatever is not Kafka's or the network's ends the service."""
    broker.rejects = [ZeroDivisionError()]
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await write(dead, record())


async def test_bug_in_a_letter_is_no_failure_of_kafkas(
    broker: Broker, dead: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyError may be an answer that makes no sense, but not where nothing was sent."""

    def headers(_self: object, _instance: str) -> None:
        raise KeyError("r")

    monkeypatch.setattr(dead_letters._Letter, "headers", headers)  # noqa: SLF001
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        await write(dead, record())


async def test_answer_that_makes_no_sense_is_a_failure(
    broker: Broker, dead: DeadLetterQueue
) -> None:
    """Aiokafka decodes it, and raises whatever comes: the letter is counted."""
    broker.rejects = [KeyError("r"), ValueError("x")]
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(3)))
    assert (dead.stats.written, dead.stats.failed) == (1, 2)
    assert [line["event"] for line in logs] == ["dead letters not written"]
