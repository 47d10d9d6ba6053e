"""The archive's readers: how many, for whom and for how long, without a broker."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from aiokafka.errors import IllegalStateError, KafkaConnectionError
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.archive import ArchiveUnavailable, Bounds, RecordsExpired, Span
from odin_ws.kafka.access import KafkaAccess
from odin_ws.kafka.archive import KafkaArchive
from odin_ws.kafka.options import KafkaOptions
from odin_ws.records import Record, TopicPartition

KEY = TopicPartition("odin.trades", 0)
SPANS = {KEY: Span(0, 1 << 40)}
OPTIONS = KafkaOptions(KafkaAccess(("nowhere:1",)), None, 1, 1, 0, 1, 0, 0)


@attrs.define
class FakeKafka:
    """What readers connect to. A partition's batches are of one record each, without end.

    `failure` is raised by all that is asked, `refusal` by connecting; `given` counts records.
    """

    open: int = 0
    opened: int = 0
    given: int = 0
    failure: Exception | None = None
    refusal: Exception | None = None

    @asynccontextmanager
    async def connect(self, _options: KafkaOptions) -> AsyncIterator[FakeKafka]:
        """A reader."""
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.opened += 1
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """A reader's answer."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return dict.fromkeys(partitions, Bounds(0, 1))

    async def read(
        self,
        _spans: Mapping[TopicPartition, Span],
        give: Callable[[Sequence[Record]], Awaitable[None]],
    ) -> None:
        """A reader's work."""
        for number in itertools.count():
            await trio.lowlevel.checkpoint()
            if self.failure is not None:
                raise self.failure
            await give([Record(KEY.topic, KEY.partition, number, 0, None, None)])
            self.given += 1


@pytest.fixture
def fake_kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """Where readers connect."""
    fake = FakeKafka()
    monkeypatch.setattr("odin_ws.kafka.archive._open_reader", fake.connect)
    return fake


@asynccontextmanager
async def running(readers: int = 1) -> AsyncIterator[KafkaArchive]:
    """An archive that runs for the length of the block."""
    archive = KafkaArchive(OPTIONS, readers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(archive.run)
        yield archive
        nursery.cancel_scope.cancel()


async def test_a_connection_is_opened_when_it_is_needed_and_kept_for_a_while(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """The next question finds it open; half a minute after the last one it is closed."""
    async with running() as archive:
        await wait_all_tasks_blocked()
        assert fake_kafka.opened == 0
        for _ in range(5):
            assert await archive.bounds([KEY]) == {KEY: (0, 1)}
            await trio.sleep(29)
        assert (fake_kafka.opened, fake_kafka.open) == (1, 1)
        await trio.sleep(2)
        assert fake_kafka.open == 0
        assert await archive.bounds([KEY])
        assert fake_kafka.opened == 2


async def test_no_more_read_at_once_than_there_are_readers_and_others_wait_in_turn(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """Who came first is next; who leaves the queue is passed over."""
    served: list[int] = []
    async with running(readers=2) as archive, trio.open_nursery() as nursery:

        async def read(number: int, scope: trio.CancelScope) -> None:
            with scope:
                async with archive.read(SPANS) as batches:
                    await anext(batches)
                    served.append(number)
                    # Not both at once: the next one is whoever came first.
                    await trio.sleep(1 + number / 8)

        scopes = [trio.CancelScope() for _ in range(6)]
        for number, scope in enumerate(scopes):
            nursery.start_soon(read, number, scope)
            await wait_all_tasks_blocked()
        assert served == [0, 1]
        scopes[3].cancel()
        await trio.sleep(5)
        assert served == [0, 1, 2, 4, 5]
        assert fake_kafka.opened == 2


async def test_a_caller_that_takes_nothing_stops_the_reading(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """One batch waits for it, and one is in the reader's hands; as long as nobody else waits."""
    async with running() as archive, archive.read(SPANS) as batches:
        await anext(batches)
        await trio.sleep(3600)
        assert fake_kafka.given == 2
        offsets = [(await anext(batches))[0].offset for _ in range(5)]
        assert offsets == [1, 2, 3, 4, 5]


async def test_a_caller_that_takes_nothing_gives_way_to_others(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """After two seconds; what was read for it stands, then it hears why there is no more."""
    async with running() as archive, archive.read(SPANS) as batches:
        await anext(batches)
        await wait_all_tasks_blocked()
        assert await archive.bounds([KEY])
        assert trio.current_time() == 2
        assert (await anext(batches))[0].offset == 1
        with pytest.raises(ArchiveUnavailable, match="not taken while others waited"):
            await anext(batches)


async def test_a_caller_that_takes_slowly_keeps_its_reader(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """Others wait for as long as it takes; when it leaves, the next one is served at once."""
    async with running() as archive, trio.open_nursery() as nursery:
        async with archive.read(SPANS) as batches:
            await anext(batches)
            nursery.start_soon(archive.bounds, [KEY])
            for _ in range(20):
                await trio.sleep(1.5)
                await anext(batches)
        assert trio.current_time() == 30
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("gone"), OSError("gone"), trio.TooSlowError("gone")]
)
async def test_a_failing_broker_is_told_and_the_next_connection_is_a_new_one(
    autojump_clock: MockClock, fake_kafka: FakeKafka, error: Exception
) -> None:
    """Whether it fails to answer, to be read or to be connected to."""
    async with running() as archive:
        async with archive.read(SPANS) as batches:
            await anext(batches)
            await wait_all_tasks_blocked()
            fake_kafka.failure = error
            # What had been read by then.
            for _ in range(2):
                await anext(batches)
            with pytest.raises(ArchiveUnavailable, match="gone"):
                await anext(batches)
        with pytest.raises(ArchiveUnavailable, match="gone"):
            await archive.bounds([KEY])
        await wait_all_tasks_blocked()
        assert (fake_kafka.open, fake_kafka.opened) == (0, 2)
        fake_kafka.failure, fake_kafka.refusal = None, error
        with pytest.raises(ArchiveUnavailable, match="gone"):
            await archive.bounds([KEY])
        fake_kafka.refusal = None
        assert await archive.bounds([KEY])


async def test_records_that_expired_cost_no_connection(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """The caller hears so, and the reader goes on."""
    fake_kafka.failure = RecordsExpired("odin.trades 0")
    async with running() as archive:
        async with archive.read(SPANS) as batches:
            with pytest.raises(RecordsExpired, match=r"odin\.trades 0"):
                await anext(batches)
        fake_kafka.failure = None
        assert await archive.bounds([KEY])
        assert fake_kafka.opened == 1


async def test_a_bug_ends_the_service(autojump_clock: MockClock, fake_kafka: FakeKafka) -> None:
    """It is no failure of the broker's to be tried again."""
    fake_kafka.failure = IllegalStateError("a bug")
    with pytest.RaisesGroup(
        pytest.RaisesExc(IllegalStateError, match="a bug"), flatten_subgroups=True
    ):
        async with running() as archive:
            with pytest.raises(ArchiveUnavailable, match="stopping"):
                await archive.bounds([KEY])


async def test_an_archive_that_has_stopped(
    autojump_clock: MockClock, fake_kafka: FakeKafka
) -> None:
    """Who waits for a turn, reads or comes later hears so."""
    told: list[str] = []
    archive = KafkaArchive(OPTIONS, 1)

    async def read() -> None:
        async with archive.read(SPANS) as batches:
            # What had been read by then.
            for _ in range(2):
                await anext(batches)
                await trio.sleep(11)
            with pytest.raises(ArchiveUnavailable, match="stopping"):
                await anext(batches)
        told.append("reading")

    async def wait() -> None:
        with pytest.raises(ArchiveUnavailable, match="stopping"):
            await archive.bounds([KEY])
        told.append("waiting")

    async with trio.open_nursery() as nursery:
        for caller in read, wait:
            nursery.start_soon(caller)
            await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await archive.run()
    assert sorted(told) == ["reading", "waiting"]
    await wait()
