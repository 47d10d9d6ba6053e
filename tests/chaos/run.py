"""One run: the testbed, the publisher, the clients, each fault in turn, and the assessment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.chaos.assess import Assessment, Window, assess
from tests.chaos.faults import Fault, Skipped
from tests.chaos.ledger import Ledger
from tests.chaos.plan import Plan
from tests.chaos.processes import Clients, Worker, run_clients, run_publisher
from tests.chaos.publisher import Mismatch, load_ledger, read_log
from tests.chaos.testbed import Testbed, open_testbed
from tests.integration.running_source import until

__all__ = ["Outcome", "run_faults"]

# Seconds without records after which no further message arrives: every client had caught up before,
# so no client is waiting for its next attempt to connect.
SETTLED_SECONDS: Final = 3
SETTLING_SECONDS: Final = 60
POLL_SECONDS: Final = 0.5

# An instance detects the end of a connection after at most WS_PONG_TIMEOUT_SECONDS (20 s).
EMPTY_SECONDS: Final = 30


@attrs.frozen
class Outcome:
    """The outcome of a run."""

    assessment: Assessment
    windows: list[Window]
    left: int
    """Connections of all instances after all clients have disconnected."""


async def run_faults(
    plan: Plan, faults: Sequence[Fault], directory: Path, announce: Callable[[str], None]
) -> Outcome:
    """Inject all faults and return the outcome; write all files to `directory`.

    Raises:
        BrokerUnavailable, BrokerFailed, WorkerFailed, Mismatch, trio.TooSlowError: no outcome.
    """
    async with open_testbed(plan, directory, announce) as testbed:
        async with run_publisher(plan, directory, testbed) as publisher:
            announce(f"{plan.clients} clients subscribe")
            async with run_clients(plan, directory, testbed) as clients:
                windows = await _inject_all(plan, faults, testbed, clients, announce)
                announce("the publisher ends")
                await _settle(publisher, clients)
                journals = await clients.finish()
        ledger = load_ledger(directory / "publisher")
        await trio.to_thread.run_sync(_compare, ledger, testbed.kafka.bootstrap)
        left = await _connections_left(testbed)
    announce("comparing")
    return Outcome(assess(ledger, windows, clients.specs, journals), windows, left)


async def _inject_all(
    plan: Plan,
    faults: Sequence[Fault],
    testbed: Testbed,
    clients: Clients,
    announce: Callable[[str], None],
) -> list[Window]:
    """Inject each fault after every client has recovered from the one before."""
    began = time.monotonic()
    announce("nothing, for comparison")
    await trio.sleep(plan.recovery)
    await clients.catch_up()
    windows = [Window("none", "", began, time.monotonic(), fault_seconds=plan.recovery)]
    for fault in faults:
        began = time.monotonic()
        announce(f"{fault.name}: {fault.does}")
        try:
            explained = await fault.inject(testbed)
        except Skipped as skipped:
            announce(f"{fault.name}: skipped, {skipped}")
            windows.append(Window(fault.name, fault.does, began, began, skipped=str(skipped)))
            continue
        fault_seconds = time.monotonic() - began
        await trio.sleep(plan.recovery)
        await clients.catch_up()
        codes, maximum = explained.codes, explained.maximum
        until = time.monotonic()
        windows.append(Window(fault.name, fault.does, began, until, fault_seconds, codes, maximum))
    return windows


async def _settle(publisher: Worker, clients: Clients) -> None:
    """Stop the publisher, and wait until no more messages arrive."""
    await publisher.finish()
    with trio.move_on_after(SETTLING_SECONDS):
        before, since = -1.0, time.monotonic()
        while time.monotonic() - since < SETTLED_SECONDS:
            if (count := clients.count("messages")) != before:
                before, since = count, time.monotonic()
            await trio.sleep(POLL_SECONDS)


def _compare(ledger: Ledger, bootstrap: str) -> None:
    """Raise Mismatch unless Kafka has exactly the records of the ledger."""
    log = set()
    for channel, position in read_log(bootstrap):
        log.add(position)
        if position not in ledger:
            raise Mismatch(f"{channel} {ledger.named(position)} is in Kafka, not in the ledger")
    if len(log) != len(ledger):
        raise Mismatch(f"the ledger has {len(ledger)} records, and Kafka {len(log)}")


async def _connections_left(testbed: Testbed) -> int:
    with suppress(trio.TooSlowError):
        await until(testbed.empty, EMPTY_SECONDS)
    return await testbed.connections()
