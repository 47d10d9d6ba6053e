"""The console of several workers: merged or one, with the samples of replaced workers."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.workers.console import WorkersConsole
from tests.workers.fakes import FakeChild
from tests.workers.test_console_merge import samples, state, tables
from tests.workers.test_ops_app import ops

REPORT = "/console/report"


def tell(child: FakeChild, times: list[int], connections: int, after: int = 0) -> None:
    """Return a worker's response to the supervisor."""
    found = samples(times, {"connections": [connections] * len(times)})
    child.says(f"{REPORT}?parts=samples&after={after}", {"samples": found})
    child.says(f"{REPORT}?parts=state", {"state": state()})
    child.says(f"{REPORT}?parts=tables", {"tables": tables()})
    limits = {"connections": 100, "memory_bytes": 1000}
    setup = {"started": 5, "tokens": ["BTC"], "limits": limits, "subscribers": {}}
    child.says(f"{REPORT}?parts=setup", {"setup": setup})


async def test_report_is_of_all_or_of_one(autojump_clock: MockClock) -> None:
    """`?worker=` selects one; the merged state lists each worker."""
    async with ops() as seen:
        for number in (1, 2):
            tell(seen.crew.now(number), [1, 2], connections=10 * number)

        async def report(query: str) -> dict[str, Any]:
            response = await seen.get(f"{REPORT}?{query}")
            assert response.status_code == 200
            found: dict[str, Any] = response.json()
            return found

        everything = await report("")
        assert everything["samples"]["gauges"]["connections"] == [30, 30]
        assert everything["setup"]["limits"] == {"connections": 200, "memory_bytes": 2000}
        assert everything["setup"]["workers"] == 2
        assert everything["tables"]["clients"]["totals"] == {"connections": 2}
        assert everything["state"]["workers"].keys() == {"1", "2"}
        for number in (1, 2):
            tell(seen.crew.now(number), [], connections=0, after=2)
        one = await report("worker=2")
        assert one["samples"]["gauges"]["connections"] == [20, 20]
        assert one["tables"]["clients"]["totals"] == {"connections": 1}
        response = await seen.get(f"{REPORT}?worker=3")
        assert (response.status_code, response.text) == (
            400,
            "worker=3: must be an integer, 1 to 2\n",
        )


async def test_samples_of_a_replaced_worker_are_kept(autojump_clock: MockClock) -> None:
    """The supervisor had requested them while it ran."""
    async with ops() as seen:
        for number in (1, 2):
            tell(seen.crew.now(number), [1, 2], connections=number)
        await seen.get(f"{REPORT}?parts=samples")
        seen.crew.now(1).exit(1)
        await trio.sleep(1)
        for number, times in ((1, [20]), (2, list(range(3, 21)))):
            tell(seen.crew.now(number), times, connections=number, after=2)
        found = (await seen.get(f"{REPORT}?parts=samples")).json()["samples"]
        assert found["t"] == list(range(1, 21))
        assert found["gauges"]["connections"] == [3] * 4 + [2] * 15 + [3]


async def test_supervisor_requests_samples_without_a_page(autojump_clock: MockClock) -> None:
    """Every five seconds, so that a page opened later has them."""
    async with ops() as seen:
        for number in (1, 2):
            tell(seen.crew.now(number), [1], connections=1)
        console = seen.console
        assert isinstance(console, WorkersConsole)
        with trio.move_on_after(6):
            await console.run()
        for number in (1, 2):
            tell(seen.crew.now(number), [], connections=1, after=1)
        found = await console.build(["samples"], 0, None, str)
        assert found["samples"]["t"] == [1]


@pytest.mark.parametrize("worker", [None, 1])
async def test_silent_worker_is_left_out_with_a_warning(
    autojump_clock: MockClock, worker: int | None
) -> None:
    """The report of the other workers is not delayed."""
    async with ops() as seen:
        for number in (1, 2):
            tell(seen.crew.now(number), [1], connections=1)
        seen.crew.now(1).hangs = True
        query = "" if worker is None else f"&worker={worker}"
        found = (await seen.get(f"{REPORT}?parts=state,tables{query}")).json()
        texts = [one["text"] for one in found["state"]["advice"]]
        assert texts == ["worker 1: does not respond"]
        assert found["tables"]["clients"]["totals"] == ({"connections": 1} if not worker else {})


async def test_page_that_is_opened_at_the_start_waits_for_a_worker(
    autojump_clock: MockClock,
) -> None:
    """Until the first worker responds."""
    async with ops() as seen:
        for number in (1, 2):
            seen.crew.now(number).rejects = True
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def come_up() -> None:
                await trio.sleep(3)
                tell(seen.crew.now(1), [1], connections=1)
                seen.crew.now(1).rejects = False

            began = trio.current_time()
            found = await seen.console.build(["setup"], 0, None, str)
            assert found["setup"]["tokens"] == ["BTC"]
            assert trio.current_time() - began == pytest.approx(3, abs=0.6)
