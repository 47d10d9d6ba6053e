"""The faults done to the stage, one after the other, and the closes that each explains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from tests.chaos.journal import HEARTBEAT, LOST
from tests.chaos.stage import Stage

__all__ = ["ALL", "ROLLING", "SHORT", "Explained", "Fault", "Skipped"]

FROZEN_SECONDS: Final = 20
OUTAGE_SECONDS: Final = 10
SHORT_OUTAGE_SECONDS: Final = 2

# An instance notices a half-open connection after WS_PONG_TIMEOUT_SECONDS (20 s), and looks now and
# then.
HALF_OPEN_SECONDS: Final = 28
IMPAIRED_SECONDS: Final = 30

DELAY_SECONDS: Final = 0.05
LOSS_PERCENT: Final = 1.0

DRAINING: Final = 1012


class Skipped(Exception):
    """This machine or this run has not what the fault needs; the message says what."""


@attrs.frozen
class Explained:
    """Closes that clients may see because of a fault: of these codes, so many at most."""

    codes: frozenset[int] = frozenset()
    most: float = 0


NOTHING: Final = Explained()


@attrs.frozen
class Fault:
    """`strike` does it, returns when it is over, and says which closes it explains."""

    name: str
    does: str
    strike: Callable[[Stage], Awaitable[Explained]]


async def rolling_restart(stage: Stage) -> Explained:
    """Restart each instance in turn."""
    most = 0
    for instance in stage.instances:
        most += await instance.connections()
        await instance.drain()
        await stage.back(instance)
    # A client that comes back during the drain's first second is sent away once more.
    return Explained(frozenset({DRAINING}), 2 * most)


async def killed_instance(stage: Stage) -> Explained:
    """Kill the fullest instance, and start it again."""
    instance = await stage.fullest()
    most = await instance.connections()
    await instance.kill()
    await stage.back(instance)
    return Explained(frozenset({LOST}), most)


async def frozen_instance(stage: Stage) -> Explained:
    """Freeze the fullest instance."""
    instance = await stage.fullest()
    most = await instance.connections()
    instance.freeze()
    await trio.sleep(FROZEN_SECONDS)
    instance.thaw()
    return Explained(frozenset({HEARTBEAT, LOST}), most)


async def stopped_broker(stage: Stage) -> Explained:
    """Stop the broker in order, wait, and start it. No connection is to close."""
    await stage.kafka.stop()
    await trio.sleep(OUTAGE_SECONDS)
    await stage.kafka.start()
    return NOTHING


async def killed_broker(stage: Stage) -> Explained:
    """Kill the broker, wait, and start it."""
    await stage.kafka.kill()
    await trio.sleep(OUTAGE_SECONDS)
    await stage.kafka.start()
    return NOTHING


async def restarted_broker(stage: Stage) -> Explained:
    """Stop the broker for a moment."""
    await stage.kafka.stop()
    await trio.sleep(SHORT_OUTAGE_SECONDS)
    await stage.kafka.start()
    return NOTHING


async def broken_connections(stage: Stage) -> Explained:
    """Break those to one instance (a third), and reset those through the wire."""
    most = 0
    if stage.balancer is not None:
        instance = await stage.fullest()
        most += await instance.connections()
        await stage.balancer.cut(instance.name)
    most += stage.wire.cut()
    return Explained(frozenset({LOST}), most)


async def half_open_connections(stage: Stage) -> Explained:
    """Swallow what the wire's connections carry, until both sides have noticed."""
    most = stage.wire.freeze()
    await trio.sleep(HALF_OPEN_SECONDS)
    return Explained(frozenset({HEARTBEAT, LOST}), most)


async def delayed(stage: Stage) -> Explained:
    """Delay what goes through the wire. No connection is to close."""
    stage.wire.delay = DELAY_SECONDS
    await trio.sleep(IMPAIRED_SECONDS)
    stage.wire.delay = 0
    return NOTHING


async def lossy(stage: Stage) -> Explained:
    """Lose and delay packets on the way to the far clients. No connection is to close."""
    if stage.namespace is None:
        raise Skipped(stage.no_namespace)
    await stage.namespace.impair(LOSS_PERCENT, DELAY_SECONDS * 1000)
    await trio.sleep(IMPAIRED_SECONDS)
    await stage.namespace.repair()
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
