"""A connection to Kafka as Trio sees it: aiokafka's consumer with a bound on every await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

import aiokafka
import attrs
import trio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IllegalArgumentError,
    IllegalStateError,
    KafkaConfigurationError,
    KafkaConnectionError,
    KafkaError,
    UnknownTopicOrPartitionError,
    for_code,
)

from odin_ws.kafka.access import KafkaAccess
from odin_ws.kafka.aio import call_aiokafka
from odin_ws.kafka.brokers import Brokers
from odin_ws.kafka.fetching import Fetcher, GroupFetcher, assign_paused
from odin_ws.kafka.session_fetcher import SessionFetcher
from odin_ws.records import TopicPartition

__all__ = [
    "BUGS",
    "Cluster",
    "ClusterFailure",
    "GroupCluster",
    "KafkaOptions",
    "Questions",
    "first_leaf",
    "make_consumer",
    "open_cluster",
    "running",
    "within",
]

# What the broker or the network may do to any call; everything else is a bug of ours.
ClusterFailure: Final = (KafkaError, OSError, trio.TooSlowError)

# KafkaErrors that are not the broker's: retrying would hide a bug or a wrong setting.
BUGS: Final = (IllegalStateError, IllegalArgumentError, KafkaConfigurationError)

# What Kafka's format has room for.
_LAST_TIMESTAMP: Final = (1 << 63) - 1

# Leaving is polite, not necessary: a dead broker must not hold up the end of the process.
_STOP_SECONDS: Final = 3


@attrs.frozen
class KafkaOptions:
    """How to reach Kafka (`access`) and read it.

    `group`: the consumer group to join, None to read every partition. `max_wait`: seconds the
    broker may hold an idle fetch. `gather`: seconds between two fetches while records come.
    `rate`: records per second at most, 0 for any. `probe`: seconds between two probes of the
    broker, and the bound on one. `history_seconds` and `history_records`: what was published before
    the start is read from so long ago, and no more of it; 0 in either for none. A member of a group
    reads none: it goes on where the group stopped.
    """

    access: KafkaAccess
    group: str | None
    max_wait: float
    gather: float
    rate: float
    probe: float
    history_seconds: float
    history_records: int

    def client(self) -> dict[str, Any]:
        """The arguments every aiokafka client takes. Raises OSError."""
        # aiokafka's default of 100 ms means 40 log lines a second while a broker is away.
        return self.access.client() | {"retry_backoff_ms": 500}


class Questions:
    """What can be asked of Kafka. Calls raise one of ClusterFailure within `bound` seconds.

    `consumer` has been told of the topics that are asked about: else it looks each of them up by
    itself, half a second a topic.
    """

    def __init__(
        self, consumer: aiokafka.AIOKafkaConsumer, admin: AIOKafkaAdminClient, bound: float
    ) -> None:
        self._asking = consumer
        self._admin = admin
        self._bound = bound

    async def layout(self, topics: Collection[str]) -> set[TopicPartition]:
        """The partitions of those of `topics` that exist.

        All topics are asked for, since asking for one by name may create it.
        """
        described = await self._ask(self._admin.describe_topics)
        found: set[TopicPartition] = set()
        for topic in described:
            if topic["topic"] not in topics:
                continue
            error = for_code(topic["error_code"])
            if issubclass(error, UnknownTopicOrPartitionError):
                continue
            if topic["error_code"]:
                raise error(topic["topic"])
            found |= {TopicPartition(topic["topic"], p["partition"]) for p in topic["partitions"]}
        return found

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each partition's next record."""
        return await self._offsets(self._asking.end_offsets, partitions)

    async def beginnings(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the oldest record that each partition still has."""
        return await self._offsets(self._asking.beginning_offsets, partitions)

    async def first_since(
        self, partitions: Collection[TopicPartition], timestamp: int
    ) -> dict[TopicPartition, int]:
        """The offset of each partition's first record of `timestamp` (epoch ms) or later.

        Partitions without such a record are left out.
        """
        at = min(max(0, timestamp), _LAST_TIMESTAMP)
        since = {aiokafka.TopicPartition(*key): at for key in partitions}
        found = await self._ask(self._asking.offsets_for_times, since)
        return {TopicPartition(*key): place.offset for key, place in found.items() if place}

    async def _offsets(
        self, ask: Any, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        found = await self._ask(ask, [aiokafka.TopicPartition(*one) for one in partitions])
        return {TopicPartition(*key): offset for key, offset in found.items()}

    async def _ask(self, question: Any, *args: Any) -> Any:
        """Ask, and once more where the connection was closed.

        Brokers close those whose authentication is older than they allow; the next is a new one.
        """
        with within(self._bound):
            try:
                return await call_aiokafka(question, *args)
            except KafkaConnectionError:
                return await call_aiokafka(question, *args)


class Cluster(Questions):
    """What the source asks of Kafka, and does with it, under the same bound.

    `asking` is a consumer for questions only: a broker answers a connection's requests one after
    the other, and behind a fetch one would wait for as long as that is held.
    """

    def __init__(
        self,
        asking: aiokafka.AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        fetcher: Fetcher,
        bound: float,
    ) -> None:
        super().__init__(asking, admin, bound)
        self.fetcher = fetcher

    def know(self, partitions: Collection[TopicPartition]) -> None:
        """Be ready to be asked about these partitions."""
        assign_paused(self._asking, [aiokafka.TopicPartition(*key) for key in partitions])


class GroupCluster(Cluster):
    """A cluster as the member of a group sees it, whom `consumer` is."""

    def __init__(
        self,
        asking: aiokafka.AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        consumer: aiokafka.AIOKafkaConsumer,
        options: KafkaOptions,
    ) -> None:
        super().__init__(asking, admin, GroupFetcher(consumer, options.gather), options.probe)
        self._consumer = consumer

    def subscribe(
        self, topics: Collection[str], listener: aiokafka.ConsumerRebalanceListener
    ) -> None:
        """Join the group for these topics, which exist: asking for one that does not may create it.

        Not by pattern: when a topic appeared, aiokafka would forget the assignment before it gave
        the listener a chance to commit.
        """
        # Told of its topics, it need not look each of them up when it is asked about one.
        assign_paused(self._asking, [aiokafka.TopicPartition(topic, 0) for topic in topics])
        self._consumer.subscribe(topics=list(topics), listener=listener)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the group's positions: the offset of the next record of each partition.

        Of partitions that a rebalance has taken away meanwhile nothing is stored.
        """
        with within(self._bound):
            await call_aiokafka(self._commit, positions)

    async def _commit(self, positions: Mapping[TopicPartition, int]) -> None:
        found = {aiokafka.TopicPartition(*key): offset for key, offset in positions.items()}
        offsets = {key: found[key] for key in found.keys() & self._consumer.assignment()}
        if offsets:
            await self._consumer.commit(offsets)

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's positions, for those partitions where it stored one."""
        with within(self._bound):
            return await call_aiokafka(self._committed, partitions)  # type: ignore[no-any-return]

    async def _committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int | None]:
        # aiokafka asks for one partition at a time: together they are one way there and back.
        offsets = await asyncio.gather(
            *(self._consumer.committed(aiokafka.TopicPartition(*key)) for key in partitions)
        )
        return {key: at for key, at in zip(partitions, offsets, strict=True) if at is not None}


@asynccontextmanager
async def open_cluster(options: KafkaOptions) -> AsyncIterator[Cluster]:
    """Connect; raises one of ClusterFailure where that does not work within the probe's bound."""
    bound = options.probe
    async with AsyncExitStack() as stack:

        async def client(make: Callable[[], Any]) -> Any:
            return await stack.enter_async_context(running(make, bound))

        asking = await client(lambda: make_consumer(options, options.max_wait))
        admin = await client(lambda: AIOKafkaAdminClient(**options.client()))
        if options.group is None:
            reading = await client(lambda: AIOKafkaClient(**options.client()))
            fetcher = SessionFetcher(Brokers(reading), options.max_wait, options.gather)
            await stack.enter_async_context(fetcher.running())
            yield Cluster(asking, admin, fetcher, bound)
        else:
            member = await client(
                lambda: make_consumer(options, options.max_wait, group=options.group)
            )
            yield GroupCluster(asking, admin, member, options)


def make_consumer(
    options: KafkaOptions,
    wait: float,
    *,
    group: str | None = None,
    **others: Any,
) -> aiokafka.AIOKafkaConsumer:
    """Make a consumer, in asyncio; `wait`: seconds the broker may hold a fetch."""
    return aiokafka.AIOKafkaConsumer(
        **options.client(),
        group_id=group,
        enable_auto_commit=False,
        # Never jump in silence: the source decides where to go on, and counts what is lost.
        auto_offset_reset="none",
        # What a transaction took back was never said.
        isolation_level="read_committed",
        fetch_max_wait_ms=round(wait * 1000),
        # By this the leader of a group notices new partitions; else the probe does.
        metadata_max_age_ms=round(options.probe * 1000) if group else 30_000,
        # How often a consumer looks round with nothing to do; 200 ms cost half a percent of a core.
        consumer_timeout_ms=1000,
        **others,
    )


@asynccontextmanager
async def running(make: Callable[[], Any], bound: float) -> AsyncIterator[Any]:
    """A started aiokafka client, for the length of the block."""

    async def make_in_asyncio() -> Any:
        # Its constructor looks for a running asyncio loop.
        return make()

    client = await call_aiokafka(make_in_asyncio)
    start = client.bootstrap if isinstance(client, AIOKafkaClient) else client.start
    has_close = isinstance(client, AIOKafkaClient | AIOKafkaAdminClient)
    stop = client.close if has_close else client.stop
    try:
        with within(bound):
            await call_aiokafka(start)
        yield client
    finally:
        # Also after a failed start: it has tasks of its own.
        with trio.move_on_after(_STOP_SECONDS, shield=True):
            try:
                await call_aiokafka(stop)
            except (asyncio.CancelledError, *ClusterFailure):
                # With the broker dead, stop() ends like this; there is nothing left to leave.
                pass


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise trio.TooSlowError, in words for operators, if the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise trio.TooSlowError(f"no answer within {seconds:g} s") from None


def first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
