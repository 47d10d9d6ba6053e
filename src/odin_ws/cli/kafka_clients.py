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

# A broker that is up answers in milliseconds, the first one after its start within seconds.
_ANSWER_SECONDS: Final = 10

# Making 96 partitions takes 0.4 s on a free machine; the rest is for a busy cluster.
_CREATE_SECONDS: Final = 30

# Between two looks whether new topics are led; the broker tells nobody.
_POLL_SECONDS: Final = 0.1

# Leaving is polite, not necessary.
_STOP_SECONDS: Final = 3

# Records of this long go out together: fewer requests, at a latency nobody sees.
_LINGER_MS: Final = 5


def silence_aiokafka() -> None:
    """Its errors arrive as exceptions, and the command puts them into one line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Client:
    """One aiokafka client; calls raise CommandFailed for whatever Kafka or the network does."""

    def __init__(self, client: Any, security: KafkaSecurity) -> None:
        self.client = client
        self._security = security

    async def call(self, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """Await an asyncio function for at most `seconds`."""
        try:
            with trio.fail_after(seconds):
                return await call_aiokafka(function, *args)
        except trio.TooSlowError:
            why = f"no answer within {seconds:g} s"
        except (KafkaError, OSError) as error:
            rejection = await self._security.rejection_reason(seconds)
            if rejection is not None:
                why = str(rejection)
            elif isinstance(error, NodeNotReadyError):
                # Of aiokafka's client, which knows the broker by a number only.
                why = await why_unreachable(self._security, seconds) or str(error)
            elif isinstance(error, KafkaConnectionError):
                why = "no broker answers there"
            else:
                why = str(error) or type(error).__name__
        raise CommandFailed(f"KAFKA_BROKERS={','.join(self._security.brokers)}: {why}")


@attrs.frozen
class ExistingTopic:
    """A topic the broker has. `led`: every partition has a leader, so it can be written to."""

    partitions: int
    led: bool


class Admin:
    """Which topics there are, and making them."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    async def existing(self, names: Collection[str]) -> dict[str, ExistingTopic]:
        """Those of `names` that exist.

        All topics are asked for, since asking for one by name may create it.
        """
        describe = self._client.client.describe_topics
        described = await self._client.call(describe, seconds=_ANSWER_SECONDS)
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
        """Make `topics`, given with the settings of each, and return when they can be used.

        Returns the names of those that existed already: they stay as they are.
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
    """Publishes events. `sent`: handed to aiokafka; `delivered`: taken by the broker."""

    _client: _Client
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    error: str = ""  # why the last one failed

    async def send(self, events: Iterable[Event]) -> None:
        """Hand events over, in order; waits while the broker is behind."""
        await self._client.call(self._send, events, seconds=_ANSWER_SECONDS)

    async def flush(self) -> None:
        """Wait until the broker has answered for everything sent."""
        await self._client.call(self._client.client.flush, seconds=_ANSWER_SECONDS)

    async def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            sending = await self._client.client.send(event.topic, event.value, event.key)
            self.sent += 1
            sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Future[Any]) -> None:
        if sending.cancelled():
            self.failed += 1
        elif (error := sending.exception()) is not None:
            self.failed += 1
            self.error = str(error) or type(error).__name__
        else:
            self.delivered += 1


@asynccontextmanager
async def open_admin(security: KafkaSecurity) -> AsyncIterator[Admin]:
    """Connect to administer topics. Raises CommandFailed."""
    async with _opened(AIOKafkaAdminClient, security, "close", {}) as client:
        yield Admin(client)


@asynccontextmanager
async def open_producer(
    security: KafkaSecurity, topics: Collection[str]
) -> AsyncIterator[Producer]:
    """Connect to publish to `topics`, which exist. Raises CommandFailed."""
    options = {"compression_type": "snappy", "linger_ms": _LINGER_MS}
    async with _opened(AIOKafkaProducer, security, "stop", options) as client:

        async def look_up() -> None:
            # Now, and at once: the first record of each topic would wait for it otherwise.
            await asyncio.gather(*map(client.client.partitions_for, topics))

        await client.call(look_up, seconds=_ANSWER_SECONDS)
        yield Producer(client)


@asynccontextmanager
async def _opened(
    kind: Callable[..., Any], security: KafkaSecurity, stop: str, options: Mapping[str, Any]
) -> AsyncIterator[_Client]:
    async def make() -> Any:
        # Inside asyncio, for aiokafka's constructors look for a running loop.
        return kind(
            **security.client(),
            **options,
            request_timeout_ms=_ANSWER_SECONDS * 1000,
        )

    async with open_asyncio():
        client = _Client(await call_aiokafka(make), security)
        try:
            await client.call(client.client.start, seconds=_ANSWER_SECONDS)
            yield client
        finally:
            # Also after a failed start: it has tasks of its own.
            with trio.move_on_after(_STOP_SECONDS, shield=True):
                # With the broker dead it ends like this; there is nothing left to leave.
                with suppress(asyncio.CancelledError, KafkaError, OSError):
                    await call_aiokafka(getattr(client.client, stop))
