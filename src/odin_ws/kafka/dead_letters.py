"""The dead letter queue: a producer that writes invalid records to KAFKA_DEAD_LETTER_TOPIC.

It is independent of the feed: `put` never waits, and failed writes are counted.
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
from odin_ws.exception_groups import leaves
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.kafka.aiokafka_internals import MALFORMED_RESPONSE_ERRORS
from odin_ws.kafka.asyncio_bridge import (
    BUGS,
    KAFKA_FAILURES,
    call_aiokafka,
    open_asyncio,
    running,
    within,
)
from odin_ws.kafka.errors import AuthenticationFailed
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.records import Record

__all__ = ["DeadLetterQueue", "DeadLetterStats"]

log = structlog.get_logger("odin_ws.kafka")

# Errors that the broker or the network may cause for a write, including malformed responses when
# the producer reconnects.
_FAILURES: Final = (KafkaError, OSError, *MALFORMED_RESPONSE_ERRORS)

# Limits on queued dead letters and their bytes: enough for a burst, and a bound on memory.
_MAX_QUEUED: Final = 1000
_MAX_BYTES: Final = 16 << 20

# Dead letters that are given to the producer together.
_BATCH_RECORDS: Final = 100

# No record waits for a dead letter, so a slow broker gets enough time.
_RESPONSE_SECONDS: Final = 10

# Time at shutdown for the dead letters that are still queued.
_FLUSH_SECONDS: Final = 2.0

# Minimum time between warnings: a broker that rejects every second write must not fill the log.
_REPORT_SECONDS: Final = 30.0

# Twice the largest WS_MAX_RECORD_BYTES: records above the limit become dead letters too.
_LARGEST_REQUEST: Final = 32 << 20


@attrs.define(eq=False)
class DeadLetterStats:
    """Counts of dead letters since the start."""

    written: int = 0
    dropped: int = 0
    """Dead letters for which the queue was full."""
    failed: int = 0
    """Dead letters that Kafka did not accept."""


@attrs.frozen
class _DeadLetter:
    record: Record
    reason: InvalidRecord

    @property
    def size(self) -> int:
        return len(self.record.key or b"") + len(self.record.value or b"")

    def headers(self, instance: str) -> list[tuple[str, bytes]]:
        record = self.record
        fields = {
            "reason": self.reason,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "instance": instance,
        }
        return [(f"odin-ws.{name}", str(value).encode()) for name, value in fields.items()]


class DeadLetterQueue:
    """Writes dead letters to `topic`; connects at the first one."""

    def __init__(self, security: KafkaSecurity, topic: str, instance: str) -> None:
        self.stats = DeadLetterStats()
        self._security = security
        self._topic = topic
        self._instance = instance
        self._queue, self._inbox = trio.open_memory_channel[_DeadLetter](_MAX_QUEUED)
        # Dead letters that are not written yet.
        self._bytes = 0
        # Dead letters to write next.
        self._next: list[_DeadLetter] = []
        # Dead letters that were being written when the time at shutdown was over.
        self._lost_in_flight = 0
        self._is_failure_logged = False
        self._next_report = -math.inf

    def put(self, record: Record, reason: InvalidRecord) -> None:
        """Queue an invalid record; drops it if the queue is full."""
        if reason is InvalidRecord.TOMBSTONE:
            # A tombstone: the publisher deletes a key. This is no error.
            return
        dead_letter = _DeadLetter(record, reason)
        if self._bytes + dead_letter.size > _MAX_BYTES:
            self.stats.dropped += 1
            return
        try:
            self._queue.send_nowait(dead_letter)
        except trio.WouldBlock:
            self.stats.dropped += 1
        else:
            self._bytes += dead_letter.size

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write dead letters during the block, and the rest for some seconds after it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                yield
                self._queue.close()
                nursery.cancel_scope.deadline = trio.current_time() + _FLUSH_SECONDS
        finally:
            self._report_lost()

    async def _write(self) -> None:
        """Write until the queue is closed and empty."""
        backoff = Backoff()
        async with open_asyncio():
            while await self._take():
                failure = None
                try:
                    async with running(self._make_producer, _RESPONSE_SECONDS) as producer:
                        await self._session(producer, backoff)
                except* BUGS:
                    raise
                except* KAFKA_FAILURES as failures:
                    failure = next(leaves(failures))
                if failure is not None:
                    await self._report(failure)
                    await trio.sleep(backoff.next())

    def _make_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._security.client(),
            request_timeout_ms=_RESPONSE_SECONDS * 1000,
            max_request_size=_LARGEST_REQUEST,
        )

    async def _take(self) -> bool:
        """Wait for dead letters unless some are queued. False: closed and empty."""
        with suppress(trio.EndOfChannel, trio.WouldBlock):
            if not self._next:
                self._next.append(await self._inbox.receive())
            while len(self._next) < _BATCH_RECORDS:
                self._next.append(self._inbox.receive_nowait())
        return bool(self._next)

    async def _session(self, producer: AIOKafkaProducer, backoff: Backoff) -> None:
        while await self._take():
            dead_letters, self._next = self._next, []
            failed = len(dead_letters)
            try:
                # The producer has timeouts of its own; this bounds writes that it loses track of.
                with within(2 * _RESPONSE_SECONDS):
                    failures = await call_aiokafka(self._send, producer, dead_letters)
                failed = len(failures)
            except trio.Cancelled:
                self._lost_in_flight = len(dead_letters)
                raise
            finally:
                self._bytes -= sum(dead_letter.size for dead_letter in dead_letters)
                self.stats.failed += failed
                self.stats.written += len(dead_letters) - failed
            if failures:
                await self._report(failures[0])
            else:
                self._report_success()
                backoff.reset()

    async def _send(self, producer: AIOKafkaProducer, dead_letters: Sequence[_DeadLetter]) -> Any:
        """Write dead letters; returns the failures. Runs in asyncio."""
        # Before the block whose errors are Kafka's: a bug here could raise the same types.
        prepared = [self._arguments(dead_letter) for dead_letter in dead_letters]
        sending = (producer.send_and_wait(**arguments) for arguments in prepared)
        results = await asyncio.gather(*sending, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if isinstance(failure, BUGS) or not isinstance(failure, _FAILURES):
                raise failure
        return failures

    def _arguments(self, dead_letter: _DeadLetter) -> dict[str, Any]:
        record = dead_letter.record
        # aiokafka does not write a record without key and value.
        value = b"" if record.key is None and record.value is None else record.value
        headers = dead_letter.headers(self._instance)
        return {"topic": self._topic, "value": value, "key": record.key, "headers": headers}

    async def _report(self, failure: BaseException) -> None:
        """Log why dead letters are not written: once, and at most once per interval."""
        now = trio.current_time()
        if self._is_failure_logged or now < self._next_report:
            return
        if not isinstance(failure, AuthenticationFailed | trio.TooSlowError):
            failure = await self._security.rejection_reason(_RESPONSE_SECONDS) or failure
        self._is_failure_logged, self._next_report = True, now + _REPORT_SECONDS
        reason = str(failure) or type(failure).__name__
        log.warning("dead letters not written", topic=self._topic, reason=reason)

    def _report_lost(self) -> None:
        """Count and log the dead letters that are left at shutdown."""
        left = len(self._next) + self._inbox.statistics().current_buffer_used
        self.stats.failed += left
        if lost := left + self._lost_in_flight:
            log.warning("dead letters lost", topic=self._topic, letters=lost)

    def _report_success(self) -> None:
        if self._is_failure_logged:
            self._is_failure_logged = False
            log.info("dead letters written again", topic=self._topic)
