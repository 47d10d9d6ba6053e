"""The faults of a run, in order, and the closes explained by each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from tests.chaos.journal import HEARTBEAT, LOST
from tests.chaos.testbed import Testbed

__all__ = ["ALL", "ROLLING", "SHORT", "ExplainedCloses", "Fault", "Skipped"]

FROZEN_SECONDS: Final = 20
OUTAGE_SECONDS: Final = 10
SHORT_OUTAGE_SECONDS: Final = 2

# An instance notices a half-open connection after WS_PONG_TIMEOUT_SECONDS (20 s) and one check.
HALF_OPEN_SECONDS: Final = 28
IMPAIRED_SECONDS: Final = 30

DELAY_SECONDS: Final = 0.05
LOSS_PERCENT: Final = 1.0

DRAINING: Final = 1012


class Skipped(Exception):
    """This machine or this run lacks a requirement of the fault; the message names it."""


@attrs.frozen
class ExplainedCloses:
    """Closes explained by a fault: their codes, and their maximum number."""

    codes: frozenset[int] = frozenset()
    maximum: float = 0


NOTHING: Final = ExplainedCloses()


@attrs.frozen
class Fault:
    """A fault of a run."""

    name: str
    does: str
    inject: Callable[[Testbed], Awaitable[ExplainedCloses]]
    """Causes the fault, and returns the explained closes at its end."""


async def rolling_restart(testbed: Testbed) -> ExplainedCloses:
    """Restart each instance in turn."""
    maximum = 0
    for instance in testbed.instances:
        maximum += await instance.connections()
        await instance.drain()
        await testbed.back(instance)
    # A client that reconnects during the drain's first second is closed once more.
    return ExplainedCloses(frozenset({DRAINING}), 2 * maximum)


async def killed_instance(testbed: Testbed) -> ExplainedCloses:
    """Kill the instance with the most clients, and start it again."""
    instance = await testbed.fullest()
    maximum = await instance.connections()
    await instance.kill()
    await testbed.back(instance)
    return ExplainedCloses(frozenset({LOST}), maximum)


async def frozen_instance(testbed: Testbed) -> ExplainedCloses:
    """Freeze the instance with the most clients."""
    instance = await testbed.fullest()
    maximum = await instance.connections()
    instance.freeze()
    await trio.sleep(FROZEN_SECONDS)
    instance.thaw()
    return ExplainedCloses(frozenset({HEARTBEAT, LOST}), maximum)


async def stopped_broker(testbed: Testbed) -> ExplainedCloses:
    """Stop the broker with SIGTERM, wait, and start it. No connection may close."""
    await testbed.kafka.stop()
    await trio.sleep(OUTAGE_SECONDS)
    await testbed.kafka.start()
    return NOTHING


async def killed_broker(testbed: Testbed) -> ExplainedCloses:
    """Kill the broker, wait, and start it."""
    await testbed.kafka.kill()
    await trio.sleep(OUTAGE_SECONDS)
    await testbed.kafka.start()
    return NOTHING


async def restarted_broker(testbed: Testbed) -> ExplainedCloses:
    """Stop the broker for a short time."""
    await testbed.kafka.stop()
    await trio.sleep(SHORT_OUTAGE_SECONDS)
    await testbed.kafka.start()
    return NOTHING


async def broken_connections(testbed: Testbed) -> ExplainedCloses:
    """Break the connections of one instance (a third of all), and reset those through the proxy."""
    maximum = 0
    if testbed.balancer is not None:
        instance = await testbed.fullest()
        maximum += await instance.connections()
        await testbed.balancer.cut(instance.name)
    maximum += testbed.proxy.cut()
    return ExplainedCloses(frozenset({LOST}), maximum)


async def half_open_connections(testbed: Testbed) -> ExplainedCloses:
    """Drop all bytes of the proxy's connections, until both sides have noticed."""
    maximum = testbed.proxy.freeze()
    await trio.sleep(HALF_OPEN_SECONDS)
    return ExplainedCloses(frozenset({HEARTBEAT, LOST}), maximum)


async def delayed(testbed: Testbed) -> ExplainedCloses:
    """Delay all bytes through the proxy. No connection may close."""
    testbed.proxy.delay = DELAY_SECONDS
    await trio.sleep(IMPAIRED_SECONDS)
    testbed.proxy.delay = 0
    return NOTHING


async def lossy(testbed: Testbed) -> ExplainedCloses:
    """Drop and delay packets on the way to the far clients. No connection may close."""
    if testbed.namespace is None:
        raise Skipped(testbed.no_namespace)
    await testbed.namespace.impair(LOSS_PERCENT, DELAY_SECONDS * 1000)
    await trio.sleep(IMPAIRED_SECONDS)
    await testbed.namespace.repair()
    return NOTHING


ROLLING: Final = Fault(
    "rolling restart", "SIGTERM to each instance in turn, and start", rolling_restart
)
KILLED: Final = Fault("kill -9", "SIGKILL to the fullest instance, and start", killed_instance)

ALL: Final[Sequence[Fault]] = (
    ROLLING,
    KILLED,
    Fault(
        "kill -STOP",
        f"SIGSTOP to the fullest instance, SIGCONT after {FROZEN_SECONDS} s",
        frozen_instance,
    ),
    Fault("broker stopped", f"SIGTERM to Kafka, start after {OUTAGE_SECONDS} s", stopped_broker),
    Fault("broker killed", f"SIGKILL to Kafka, start after {OUTAGE_SECONDS} s", killed_broker),
    Fault(
        "broken connections",
        "the balancer breaks those to one instance; a proxy resets its own",
        broken_connections,
    ),
    Fault(
        "half-open connections",
        f"a proxy swallows all bytes of its connections, both ways, for {HALF_OPEN_SECONDS} s",
        half_open_connections,
    ),
    Fault(
        "50 ms of delay",
        f"a proxy delays all bytes, both ways, for {IMPAIRED_SECONDS} s",
        delayed,
    ),
    Fault(
        "1% loss, 50 ms of delay",
        f"netem, both ways, for {IMPAIRED_SECONDS} s",
        lossy,
    ),
)
SHORT: Final[Sequence[Fault]] = (
    ROLLING,
    KILLED,
    Fault(
        "broker stopped",
        f"SIGTERM to Kafka, start after {SHORT_OUTAGE_SECONDS} s",
        restarted_broker,
    ),
)
