"""The suite as kosoku runs it: Autobahn's own cases, by a client that runs on Python 3."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import kosoku
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.autobahn.echo import echoing

if TYPE_CHECKING:
    # Needed for types only.
    from kosoku._kosoku import CaseResult

# Most cases wait to see that nothing happens.
_AT_ONCE: Final = 8

__all__ = ["run_suite", "summary"]


async def run_suite(
    cases: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> list[CaseResult]:
    """Run cases by number or pattern, all by default, each on a connection of its own."""
    async with echoing(LOOPBACK) as address:
        return await trio.to_thread.run_sync(_drive, f"ws://{address}/ws", cases, exclude)


def _drive(url: str, cases: Sequence[str] | None, exclude: Sequence[str]) -> list[CaseResult]:
    async def drive() -> list[CaseResult]:
        try:
            return await kosoku.run_fuzzingclient(url, cases, exclude, _AT_ONCE)
        except kosoku.FailureError as failure:
            return list(failure.results)

    return asyncio.run(drive())


def summary(results: Sequence[CaseResult]) -> dict[str, dict[str, int]]:
    """The number of cases per group and outcome."""
    groups: dict[str, Counter[str]] = {}
    for result in results:
        group, _, _ = result.case_id.partition(".")
        outcome = result.behavior.value if result.passed else "FAILED"
        groups.setdefault(group, Counter())[outcome] += 1
    return {group: dict(counts) for group, counts in groups.items()}
