"""Dead letters are written independently of the feed, which never waits for them."""

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


async def test_dead_letter_has_the_original_record(broker: Broker, dead: DeadLetterQueue) -> None:
    """Key and value are unchanged; headers have reason, source, time and instance."""
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


async def test_queued_dead_letters_are_written_at_shutdown(
    broker: Broker, dead: DeadLetterQueue
) -> None:
    """A drain writes everything that the broker accepts."""
    await write(dead, *(record(offset=offset) for offset in range(950)))
    assert len(broker.written) == dead.stats.written == 950


async def test_record_without_key_and_value_is_written(
    broker: Broker, dead: DeadLetterQueue
) -> None:
    """Aiokafka needs a value, so it is empty."""
    await write(dead, record(None, None))
    assert broker.written[0][1:3] == (None, b"")


async def test_tombstone_is_no_dead_letter(dead: DeadLetterQueue) -> None:
    """Compacted topics delete keys with it."""
    dead.put(record(value=None), InvalidRecord.TOMBSTONE)
    assert (dead.stats.written, dead.stats.dropped) == (0, 0)


@pytest.mark.parametrize(("size", "room"), [(10, 1000), (1 << 20, 15)])
async def test_full_queue_drops_and_counts(
    size: int, room: int, broker: Broker, dead: DeadLetterQueue
) -> None:
    """By number and by bytes; written letters free room."""
    for _ in range(room + 5):
        dead.put(record(b"k", b"x" * size), InvalidRecord.NOT_JSON)
    assert dead.stats.dropped == 5
    async with dead.running():
        pass
    assert len(broker.written) == room


async def test_unwritten_dead_letters_are_one_warning_at_shutdown(
    broker: Broker, dead: DeadLetterQueue, autojump_clock: MockClock
) -> None:
    """It counts those being written and those queued."""
    broker.hangs_after = 130
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(950)))
    assert [line["event"] for line in logs] == ["dead letters lost"]
    assert (logs[0]["log_level"], logs[0]["topic"]) == ("warning", "dead")
    # Of a hundred that are handed over together nobody knows which were written.
    assert (logs[0]["letters"], len(broker.written)) == (850, 130)
    assert (dead.stats.written, dead.stats.failed) == (100, 850)


async def test_dead_letters_without_broker_are_reported(
    broker: Broker, dead: DeadLetterQueue, autojump_clock: MockClock
) -> None:
    """The reason first, the number at the end."""
    broker.away = [KafkaConnectionError("away")] * 1000
    with capture_logs() as logs:
        await write(dead, record(), record())
    assert [line["event"] for line in logs] == [
        "dead letters not written",
        "dead letters lost",
    ]
    assert logs[-1]["letters"] == dead.stats.failed == 2


async def test_immediate_stop_reports_lost_dead_letters(
    broker: Broker, dead: DeadLetterQueue
) -> None:
    """A second signal cancels everything while letters are queued."""
    broker.hangs_after = 0
    with capture_logs() as logs, trio.CancelScope() as scope:
        async with dead.running():
            dead.put(record(), InvalidRecord.NO_KEY)
            scope.cancel()
            await trio.sleep_forever()
    assert [(line["event"], line["letters"]) for line in logs] == [("dead letters lost", 1)]


@pytest.mark.parametrize("error", [MessageSizeTooLargeError("x"), KafkaConnectionError("gone")])
async def test_rejected_dead_letter_is_counted_and_logged_once(
    error: Exception, broker: Broker, dead: DeadLetterQueue
) -> None:
    """Others are still written."""
    broker.rejects = [error, error]
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(5)))
    assert (dead.stats.written, dead.stats.failed) == (3, 2)
    assert [line["event"] for line in logs] == ["dead letters not written"]


async def test_dead_letters_wait_for_a_lost_broker(broker: Broker, dead: DeadLetterQueue) -> None:
    """Writes are retried with back-off; both states are logged once."""
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


async def test_other_error_ends_the_service(broker: Broker, dead: DeadLetterQueue) -> None:
    """Errors that are neither Kafka's nor the network's are bugs."""
    broker.rejects = [ZeroDivisionError()]
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await write(dead, record())


async def test_bug_before_the_write_is_raised(
    broker: Broker, dead: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyError may be a malformed response, but not before anything was sent."""

    def headers(_self: object, _instance: str) -> None:
        raise KeyError("r")

    monkeypatch.setattr(dead_letters._DeadLetter, "headers", headers)  # noqa: SLF001
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        await write(dead, record())


async def test_malformed_response_counts_as_failed(broker: Broker, dead: DeadLetterQueue) -> None:
    """Aiokafka raises any error while decoding it."""
    broker.rejects = [KeyError("r"), ValueError("x")]
    with capture_logs() as logs:
        await write(dead, *(record(offset=offset) for offset in range(3)))
    assert (dead.stats.written, dead.stats.failed) == (1, 2)
    assert [line["event"] for line in logs] == ["dead letters not written"]
