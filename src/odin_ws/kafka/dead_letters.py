"""The dead letter queue: a producer that writes invalid records to KAFKA_DEAD_LETTER_TOPIC.

It stands beside the feed: `put` never waits, and whatever Kafka does to a letter is counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import attrs
import structlog
import trio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from odin_ws.backoff import Backoff
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.kafka.aiokafka_internals import MALFORMED_RESPONSE_ERRORS
from odin_ws.kafka.asyncio_bridge import (
    BUGS,
    KAFKA_FAILURES,
    call_aiokafka,
    first_leaf,
    open_asyncio,
    running,
    within,
)
from odin_ws.kafka.errors import AuthenticationFailed
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.records import Record

__all__ = ["DeadLetterQueue", "DeadLetterStats"]

log = structlog.get_logger("odin_ws.kafka")

# Errors that the broker or the network may cause for a letter: also an answer that makes no sense,
# when the producer connects anew.
_FAILURES: Final = (KafkaError, OSError, *MALFORMED_RESPONSE_ERRORS)

# Letters and bytes that may wait for the broker: enough for a burst, and a bound on memory.
_MOST_LETTERS: Final = 1000
_MOST_BYTES: Final = 16 << 20

# Letters that are handed to the producer together.
_TOGETHER: Final = 100

# Nothing is kept up by a letter, so there is time for a slow broker.
_ANSWER_SECONDS: Final = 10

# At the end of the process, for those that still wait.
_LAST_SECONDS: Final = 2.0

# A broker that takes one letter and rejects the next must not fill the log.
_REPORT_SECONDS: Final = 30.0

# The largest value of WS_MAX_RECORD_BYTES, and as much again: a larger record is a letter too.
_LARGEST_REQUEST: Final = 32 << 20


@attrs.define(eq=False)
class DeadLetterStats:
    """Counts since the start. `dropped`: there was no room to wait; `failed`: Kafka rejected it."""

    written: int = 0
    dropped: int = 0
    failed: int = 0


@attrs.frozen
class _Letter:
    record: Record
    reason: InvalidRecord

    @property
    def size(self) -> int:
        return len(self.record.key or b"") + len(self.record.value or b"")

    def headers(self, instance: str) -> list[tuple[str, bytes]]:
        record = self.record
        told = {
            "reason": self.reason,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "instance": instance,
        }
        return [(f"odin-ws.{name}", str(value).encode()) for name, value in told.items()]


class DeadLetterQueue:
    """Writes to `topic`, and connects when there is a first letter."""

    def __init__(self, security: KafkaSecurity, topic: str, instance: str) -> None:
        self.stats = DeadLetterStats()
        self._security = security
        self._topic = topic
        self._instance = instance
        self._queue, self._inbox = trio.open_memory_channel[_Letter](_MOST_LETTERS)
        # Letters that were put and not written yet.
        self._bytes = 0
        # Those that are to be written next.
        self._next: list[_Letter] = []
        # Those that Kafka was writing when the time for it was over.
        self._cut_off = 0
        self._told_of = False
        self._next_report = -math.inf

    def put(self, record: Record, reason: InvalidRecord) -> None:
        """Take a record, if there is room for it."""
        if reason is InvalidRecord.TOMBSTONE:
            # Nobody's mistake: so a publisher says that a key is to be forgotten.
            return
        letter = _Letter(record, reason)
        if self._bytes + letter.size > _MOST_BYTES:
            self.stats.dropped += 1
            return
        try:
            self._queue.send_nowait(letter)
        except trio.WouldBlock:
            self.stats.dropped += 1
        else:
            self._bytes += letter.size

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for the length of the block, and what is left then for some seconds."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                yield
                self._queue.close()
                nursery.cancel_scope.deadline = trio.current_time() + _LAST_SECONDS
        finally:
            self._tell_of_lost()

    async def _write(self) -> None:
        """Write until nothing is left and nothing comes any more."""
        backoff = Backoff()
        async with open_asyncio():
            while await self._take():
                failure = None
                try:
                    async with running(self._make_producer, _ANSWER_SECONDS) as producer:
                        await self._session(producer, backoff)
                except* BUGS:
                    raise
                except* KAFKA_FAILURES as failures:
                    failure = first_leaf(failures)
                if failure is not None:
                    await self._report(failure)
                    await trio.sleep(backoff.next())

    def _make_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._security.client(),
            request_timeout_ms=_ANSWER_SECONDS * 1000,
            max_request_size=_LARGEST_REQUEST,
        )

    async def _take(self) -> bool:
        """Wait for letters, if none are to be written. False: there are none, and never will be."""
        with suppress(trio.EndOfChannel, trio.WouldBlock):
            if not self._next:
                self._next.append(await self._inbox.receive())
            while len(self._next) < _TOGETHER:
                self._next.append(self._inbox.receive_nowait())
        return bool(self._next)

    async def _session(self, producer: AIOKafkaProducer, backoff: Backoff) -> None:
        while await self._take():
            dead_letters, self._next = self._next, []
            failed = len(dead_letters)
            try:
                # The producer gives up on each by itself; this is for what it forgets.
                with within(2 * _ANSWER_SECONDS):
                    failures = await call_aiokafka(self._send, producer, dead_letters)
                failed = len(failures)
            except trio.Cancelled:
                self._cut_off = len(dead_letters)
                raise
            finally:
                self._bytes -= sum(letter.size for letter in dead_letters)
                self.stats.failed += failed
                self.stats.written += len(dead_letters) - failed
            if failures:
                await self._report(failures[0])
            else:
                self._report_success()
                backoff.reset()

    async def _send(self, producer: AIOKafkaProducer, dead_letters: Sequence[_Letter]) -> Any:
        """Write letters; returns the failures. In asyncio."""
        # Outside of what may fail for Kafka's reasons: a bug in it has the same types of errors.
        prepared = [self._arguments(letter) for letter in dead_letters]
        sending = (producer.send_and_wait(**arguments) for arguments in prepared)
        results = await asyncio.gather(*sending, return_exceptions=True)
        failures = [one for one in results if isinstance(one, BaseException)]
        for failure in failures:
            if isinstance(failure, BUGS) or not isinstance(failure, _FAILURES):
                raise failure
        return failures

    def _arguments(self, letter: _Letter) -> dict[str, Any]:
        record = letter.record
        # aiokafka does not write a record that has neither key nor value.
        value = b"" if record.key is None and record.value is None else record.value
        headers = letter.headers(self._instance)
        return {"topic": self._topic, "value": value, "key": record.key, "headers": headers}

    async def _report(self, failure: BaseException) -> None:
        """Say why letters are not written: once, and not again soon after that was over."""
        now = trio.current_time()
        if self._told_of or now < self._next_report:
            return
        if not isinstance(failure, AuthenticationFailed | trio.TooSlowError):
            failure = await self._security.rejection_reason(_ANSWER_SECONDS) or failure
        self._told_of, self._next_report = True, now + _REPORT_SECONDS
        reason = str(failure) or type(failure).__name__
        log.warning("dead letters not written", topic=self._topic, reason=reason)

    def _tell_of_lost(self) -> None:
        """Count what is left at the end, and say so: nobody will write it."""
        left = len(self._next) + self._inbox.statistics().current_buffer_used
        self.stats.failed += left
        if lost := left + self._cut_off:
            log.warning("dead letters lost", topic=self._topic, letters=lost)

    def _report_success(self) -> None:
        if self._told_of:
            self._told_of = False
            log.info("dead letters written again", topic=self._topic)
