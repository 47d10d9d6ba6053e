"""One run: the stage, the publisher, the clients, one fault after the other, and the judgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.chaos.assess import Assessment, Window, assess
from tests.chaos.crowd import Clients, Worker, run_clients, run_publisher
from tests.chaos.faults import Fault, Skipped
from tests.chaos.ledger import Ledger
from tests.chaos.plan import Plan
from tests.chaos.publisher import Mismatch, load_ledger, read_log
from tests.chaos.stage import Stage, open_stage
from tests.integration.running_source import until

__all__ = ["Outcome", "run_course"]

# No message for so long, with nothing published: they are all there, or will never be. Everybody
# has caught up before, so nobody is just waiting for the next attempt to connect.
SETTLED_SECONDS: Final = 3
SETTLING_SECONDS: Final = 60
POLL_SECONDS: Final = 0.5

# After the clients have gone an instance may take WS_PONG_TIMEOUT_SECONDS (20 s) to know of one.
EMPTY_SECONDS: Final = 30


@attrs.frozen
class Outcome:
    """The outcome of a run. `left`: connections that the instances had after all clients left."""

    assessment: Assessment
    windows: list[Window]
    left: int


async def run_course(
    plan: Plan, faults: Sequence[Fault], directory: Path, say: Callable[[str], None]
) -> Outcome:
    """Do all faults, with everything that is written in `directory`.

    Raises:
        BrokerUnavailable, BrokerFailed, WorkerFailed, Mismatch, trio.TooSlowError: it was no run.
    """
    async with open_stage(plan, directory, say) as stage:
        async with run_publisher(plan, directory, stage) as publisher:
            say(f"{plan.clients} clients subscribe")
            async with run_clients(plan, directory, stage) as clients:
                windows = await _strike_all(plan, faults, stage, clients, say)
                say("the publisher ends")
                await _settle(publisher, clients)
                journals = await clients.finish()
        ledger = load_ledger(directory / "publisher")
        await trio.to_thread.run_sync(_compare, ledger, stage.kafka.bootstrap)
        left = await _left(stage)
    say("judging")
    return Outcome(assess(ledger, windows, clients.seats, journals), windows, left)


async def _strike_all(
    plan: Plan,
    faults: Sequence[Fault],
    stage: Stage,
    clients: Clients,
    say: Callable[[str], None],
) -> list[Window]:
    """Strike each when everybody has caught up with the one before: its effects are its own."""
    began = time.monotonic()
    say("nothing, for comparison")
    await trio.sleep(plan.calm)
    await clients.catch_up()
    windows = [Window("none", "", began, time.monotonic(), struck=plan.calm)]
    for fault in faults:
        began = time.monotonic()
        say(f"{fault.name}: {fault.does}")
        try:
            explained = await fault.strike(stage)
        except Skipped as skipped:
            say(f"{fault.name}: skipped, {skipped}")
            windows.append(Window(fault.name, fault.does, began, began, skipped=str(skipped)))
            continue
        struck = time.monotonic() - began
        await trio.sleep(plan.calm)
        await clients.catch_up()
        codes, most = explained.codes, explained.most
        until = time.monotonic()
        windows.append(Window(fault.name, fault.does, began, until, struck, codes, most))
    return windows


async def _settle(publisher: Worker, clients: Clients) -> None:
    """End the publisher, and wait until no more messages come."""
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


async def _left(stage: Stage) -> int:
    with suppress(trio.TooSlowError):
        await until(stage.empty, EMPTY_SECONDS)
    return await stage.connections()
