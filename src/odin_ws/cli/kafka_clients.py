"""Kafka admin client and producer for commands, with a time limit on each call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import attrs
import trio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from odin_ws.cli.command_runner import CommandFailed
from odin_ws.kafka.asyncio_bridge import call_aiokafka, open_asyncio
from odin_ws.kafka.client import why_unreachable
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.testing.events import Event

__all__ = ["Admin", "ExistingTopic", "Producer", "open_admin", "open_producer", "silence_aiokafka"]

# A running broker responds in milliseconds, to the first request after its start in seconds.
_RESPONSE_SECONDS: Final = 10

# Creating 96 partitions takes 0.4 s on an idle machine; the rest is for a busy cluster.
_CREATE_SECONDS: Final = 30

# Interval of checks for leaders of new topics: brokers do not announce leaders.
_POLL_SECONDS: Final = 0.1

# Timeout of a clean close, which is optional.
_STOP_SECONDS: Final = 3

# Batches records for 5 ms: fewer requests at a small latency.
_LINGER_MS: Final = 5


def silence_aiokafka() -> None:
    """Silence aiokafka's log: its errors are raised, and the command prints them as one line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Client:
    """One aiokafka client; `call` turns errors of Kafka and of the network into CommandFailed."""

    def __init__(self, client: Any, security: KafkaSecurity) -> None:
        self.client = client
        self._security = security

    async def call(self, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """Await an asyncio function for at most `seconds`."""
        try:
            with trio.fail_after(seconds):
                return await call_aiokafka(function, *args)
        except trio.TooSlowError:
            why = f"no response within {seconds:g} s"
        except (KafkaError, OSError) as error:
            rejection = await self._security.rejection_reason(seconds)
            if rejection is not None:
                why = str(rejection)
            elif isinstance(error, NodeNotReadyError):
                # aiokafka's NodeNotReadyError names the broker by its number only.
                why = await why_unreachable(self._security, seconds) or str(error)
            elif isinstance(error, RequestTimedOutError):
                # A broker sends this error for a request that only the controller can handle.
                why = "the cluster did not carry out the request in time: is its controller up?"
            elif isinstance(error, KafkaConnectionError):
                why = "no broker responds at this address"
            else:
                why = str(error) or type(error).__name__
        raise CommandFailed(f"KAFKA_BROKERS={','.join(self._security.brokers)}: {why}")


@attrs.frozen
class ExistingTopic:
    """A topic that exists. `led`: every partition has a leader and can be written to."""

    partitions: int
    led: bool


class Admin:
    """Lists and creates topics."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    async def existing(self, names: Collection[str]) -> dict[str, ExistingTopic]:
        """Return the topics of `names` that exist.

        Requests all topics: a metadata request for one name may create the topic.
        """
        describe = self._client.client.describe_topics
        described = await self._client.call(describe, seconds=_RESPONSE_SECONDS)
        found = {}
        for topic in described:
            if topic["topic"] not in names:
                continue
            error = for_code(topic["error_code"])
            if issubclass(error, UnknownTopicOrPartitionError):
                continue
            partitions = topic["partitions"]
            # -1 stands for no leader.
            led = all(partition["leader"] >= 0 for partition in partitions)
            found[topic["topic"]] = ExistingTopic(len(partitions), led)
        return found

    async def create(
        self,
        topics: Mapping[str, Mapping[str, str]],
        *,
        partitions: int,
        replication: int,
    ) -> set[str]:
        """Create `topics`, a mapping of names to configs; returns when all partitions have leaders.

        Returns the names that existed already; their topics are unchanged.
        """
        wanted = [
            NewTopic(name, partitions, replication, topic_configs=dict(config))
            for name, config in topics.items()
        ]
        create = self._client.client.create_topics
        response = await self._client.call(create, wanted, seconds=_CREATE_SECONDS)
        existed = set()
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if error is TopicAlreadyExistsError:
                existed.add(name)
            elif code:
                why = next(filter(None, message), error.__name__)
                raise CommandFailed(f"{name} was not created: {why}")
        await self._until_led(topics.keys())
        return existed

    async def _until_led(self, names: Collection[str]) -> None:
        with trio.move_on_after(_CREATE_SECONDS):
            while True:
                existing = await self.existing(names)
                if all(name in existing and existing[name].led for name in names):
                    return
                await trio.sleep(_POLL_SECONDS)
        raise CommandFailed(f"created, but not ready to be written to after {_CREATE_SECONDS} s")


@attrs.define(eq=False)
class Producer:
    """Publishes events. `sent`: events given to aiokafka; `delivered`: acknowledged ones."""

    _client: _Client
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    error: str = ""  # the reason of the last failure

    async def send(self, events: Iterable[Event]) -> None:
        """Send events in order; waits while the broker is behind."""
        await self._client.call(self._send, events, seconds=_RESPONSE_SECONDS)

    async def flush(self) -> None:
        """Wait until the broker has acknowledged or rejected every event."""
        await self._client.call(self._client.client.flush, seconds=_RESPONSE_SECONDS)

    async def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            sending = await self._client.client.send(event.topic, event.value, event.key)
            self.sent += 1
            sending.add_done_callback(self._on_sent)

    def _on_sent(self, sending: asyncio.Future[Any]) -> None:
        if sending.cancelled():
            self.failed += 1
        elif (error := sending.exception()) is not None:
            self.failed += 1
            self.error = str(error) or type(error).__name__
        else:
            self.delivered += 1


@asynccontextmanager
async def open_admin(security: KafkaSecurity) -> AsyncIterator[Admin]:
    """Open an admin client. Raises CommandFailed."""
    async with _opened(AIOKafkaAdminClient, security, "close", {}) as client:
        yield Admin(client)


@asynccontextmanager
async def open_producer(
    security: KafkaSecurity, topics: Collection[str]
) -> AsyncIterator[Producer]:
    """Open a producer for `topics`, which exist. Raises CommandFailed."""
    options = {"compression_type": "snappy", "linger_ms": _LINGER_MS}
    async with _opened(AIOKafkaProducer, security, "stop", options) as client:

        async def look_up() -> None:
            # Otherwise the first record of each topic waits for a metadata request of its own.
            await asyncio.gather(*map(client.client.partitions_for, topics))

        await client.call(look_up, seconds=_RESPONSE_SECONDS)
        yield Producer(client)


@asynccontextmanager
async def _opened(
    kind: Callable[..., Any], security: KafkaSecurity, stop: str, options: Mapping[str, Any]
) -> AsyncIterator[_Client]:
    async def make() -> Any:
        # Called inside asyncio: aiokafka's constructors need a running loop.
        return kind(
            **security.client(),
            **options,
            request_timeout_ms=_RESPONSE_SECONDS * 1000,
        )

    async with open_asyncio():
        client = _Client(await call_aiokafka(make), security)
        try:
            await client.call(client.client.start, seconds=_RESPONSE_SECONDS)
            yield client
        finally:
            # Also after a failed start: the client has tasks of its own.
            with trio.move_on_after(_STOP_SECONDS, shield=True):
                # `stop` raises these errors if the broker is down; no connection is left to close.
                with suppress(asyncio.CancelledError, KafkaError, OSError):
                    await call_aiokafka(getattr(client.client, stop))
