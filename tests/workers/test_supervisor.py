"""The supervisor keeps its workers running, and stops them; in virtual time."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import signal
from collections.abc import Iterable
from itertools import pairwise

import pytest
import trio
from prometheus_client.core import Metric
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.workers.child import DRAIN, STOP
from odin_ws.workers.supervisor import WRONG_SETTINGS, WorkerFailed
from tests.workers.fakes import DRAIN_SECONDS, Crew, supervising


async def test_all_workers_are_started_at_once(autojump_clock: MockClock) -> None:
    """No worker waits for another."""
    crew = Crew()
    async with supervising(crew, workers=3) as run:
        assert sorted(number for _, number, _ in crew.starts) == [1, 2, 3]
        assert len({at for at, _, _ in crew.starts}) == 1
        assert all(worker.child is not None for worker in run.supervisor.workers)


async def test_crashed_worker_is_replaced_at_once(
    autojump_clock: MockClock,
) -> None:
    """The other workers continue."""
    crew = Crew()
    async with supervising(crew) as run:
        other = crew.now(2)
        await trio.sleep(100)
        crew.now(1).exit(-11)
        await trio.sleep(0.5)
        assert len(crew.times(1)) == 2
        assert run.supervisor.workers[0].restarts == 1
        assert crew.now(2) is other
        assert other.commands == []


async def test_repeated_crashes_back_off(
    autojump_clock: MockClock,
) -> None:
    """The wait grows to 30 s and stays there."""
    crew = Crew()
    async with supervising(crew):
        crew.fate = 1
        crew.now(1).exit(1)
        await trio.sleep(3600)
        times = crew.times(1)
        # 240 on average; further off than 80 is nine standard deviations.
        assert 160 < len(times) < 320
        assert all(later - sooner < 31 for sooner, later in pairwise(times))


async def test_back_off_resets_after_a_good_run(
    autojump_clock: MockClock,
) -> None:
    """Crashes before it do not count."""
    crew = Crew()
    async with supervising(crew):
        crew.fate = 1
        crew.now(1).exit(1)
        await trio.sleep(300)
        crew.fate = None
        await trio.sleep(300)
        before = len(crew.times(1))
        crew.now(1).exit(1)
        await trio.sleep(0.3)
        assert len(crew.times(1)) == before + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_worker_that_a_signal_ends_before_it_serves_is_replaced(
    autojump_clock: MockClock, number: signal.Signals
) -> None:
    """Another process sent the signal."""
    crew = Crew()
    crew.fate = -number
    async with supervising(crew, workers=1) as run:
        crew.fate = None
        await trio.sleep(31)
        assert run.supervisor.workers[0].served


# The last is a real-time signal, which has no name of its own.
@pytest.mark.parametrize("status", [0, 1, WRONG_SETTINGS, -9, -40])
async def test_failed_first_start_ends_the_supervisor(
    autojump_clock: MockClock, status: int
) -> None:
    """The exit status is the worker's."""
    crew = Crew()
    crew.fate = status
    with pytest.RaisesGroup(
        pytest.RaisesExc(WorkerFailed, check=lambda error: error.status == status),
        flatten_subgroups=True,
    ):
        async with supervising(crew, workers=1):
            pytest.fail("it runs")
    assert len(crew.starts) == 1


async def test_failed_first_start_stops_the_others(
    autojump_clock: MockClock,
) -> None:
    """The other workers have exited when the error is raised."""
    crew = Crew()
    with pytest.RaisesGroup(WorkerFailed, flatten_subgroups=True):
        async with supervising(crew) as run:
            run.supervisor.workers[0].served = False
            crew.now(1).exit(1)
            await trio.sleep(10)
    assert crew.now(2).commands == [STOP]


async def test_stop_drains_all_workers_at_once(autojump_clock: MockClock) -> None:
    """Each worker gets one command, none is restarted, and the run ends with the last."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.now(2).drains = False
        crew.stop.set()
        await wait_all_tasks_blocked()
        assert [crew.now(number).commands for number in (1, 2)] == [[DRAIN], [DRAIN]]
        assert run.drained is None
        crew.now(2).exit(0)
    assert run.drained is True
    assert len(crew.starts) == 2


async def test_slow_drain_is_killed(autojump_clock: MockClock) -> None:
    """The run ends after the timeout and returns False."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.now(1).drains = False
        begun = trio.current_time()
        crew.stop.set()
        await trio.sleep(DRAIN_SECONDS + 1)
    assert run.drained is False
    assert run.ended_at == pytest.approx(begun + DRAIN_SECONDS)


async def test_crash_during_drain_returns_false(autojump_clock: MockClock) -> None:
    """The worker is not replaced."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.now(1).drains = False
        crew.stop.set()
        await wait_all_tasks_blocked()
        crew.now(1).exit(1)
    assert run.drained is False
    assert len(crew.starts) == 2


async def test_stop_does_not_wait_for_a_restart(autojump_clock: MockClock) -> None:
    """A worker that is not running has nothing to drain."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.fate = 1
        crew.now(1).exit(1)
        await trio.sleep(60)
        count = len(crew.starts)
        crew.stop.set()
    assert run.drained is True
    assert len(crew.starts) == count


async def test_cancellation_stops_all_workers(autojump_clock: MockClock) -> None:
    """During a drain too."""
    crew = Crew()
    async with supervising(crew) as run:
        for number in (1, 2):
            crew.now(number).drains = False
        crew.stop.set()
        await wait_all_tasks_blocked()
        run.scope.cancel()
    assert [crew.now(number).commands for number in (1, 2)] == [[DRAIN, STOP], [DRAIN, STOP]]
    assert run.drained is None


@pytest.mark.parametrize("how", ["hangs", "rejects"])
async def test_unresponsive_worker_is_replaced(autojump_clock: MockClock, how: str) -> None:
    """It is killed after 30 s, so its clients reconnect to other workers."""
    crew = Crew()
    async with supervising(crew):
        silent = crew.now(1)
        setattr(silent, how, True)
        await trio.sleep(25)
        assert not silent.ended
        await trio.sleep(15)
        assert silent.ended
        assert crew.now(1) is not silent


async def test_supervisor_without_descriptors_kills_no_healthy_worker(
    autojump_clock: MockClock,
) -> None:
    """Time in which no request could be sent does not count."""
    crew = Crew()
    async with supervising(crew):
        first = crew.now(1)
        with capture_logs() as logs:
            first.cannot_be_asked = True
            await trio.sleep(3600)
            assert crew.now(1) is first
            first.cannot_be_asked, first.rejects = False, True
            await trio.sleep(25)
            assert not first.ended
            await trio.sleep(15)
            assert first.ended
    reported = [line for line in logs if line["event"] == "worker health check failed"]
    assert [(line["worker"], line["reason"]) for line in reported] == [
        (1, "[Errno 24] Too many open files")
    ]


async def test_failing_page_does_not_kill_the_worker(autojump_clock: MockClock) -> None:
    """A bug in the metrics affects only the metrics."""
    crew = Crew()
    async with supervising(crew) as run:
        first = crew.now(1)
        first.says("/metrics", "Internal Server Error", 500)
        await trio.sleep(300)
        assert crew.now(1) is first
        assert await run.supervisor.check() == {1: False, 2: True}


async def test_failed_process_start_is_retried(
    autojump_clock: MockClock,
) -> None:
    """The other workers continue meanwhile."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.no_processes = True
        crew.now(1).exit(-9)
        await trio.sleep(300)
        assert run.supervisor.workers[0].child is None
        assert not crew.now(2).ended
        crew.no_processes = False
        await trio.sleep(31)
        assert run.supervisor.workers[0].child is not None


async def test_page_does_not_wait_for_a_silent_worker(autojump_clock: MockClock) -> None:
    """After 2 s it has the other responses."""
    crew = Crew()
    async with supervising(crew, workers=3) as run:
        crew.now(1).hangs = True
        crew.now(2).rejects = True
        begun = trio.current_time()
        responses = await run.supervisor.request("/health/ready")
        assert trio.current_time() - begun == pytest.approx(2)
        assert [None if response is None else response.text for response in responses.values()] == [
            None,
            None,
            "ready\n",
        ]


async def test_counters_of_a_replaced_worker_are_kept(autojump_clock: MockClock) -> None:
    """With the values of its last check; its gauges are dropped."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.now(1).counts(100, connections=7)
        crew.now(2).counts(10, connections=2)
        await trio.sleep(6)
        assert total(run.supervisor.merged_metrics.families(), "ws_messages_sent_total") == 110
        assert total(run.supervisor.merged_metrics.families(), "ws_connections_active") == 9
        crew.now(1).exit(-9)
        await trio.sleep(1)
        crew.now(1).counts(1, connections=1)
        assert await run.supervisor.check() == {1: True, 2: True}
        assert total(run.supervisor.merged_metrics.families(), "ws_messages_sent_total") == 111
        assert total(run.supervisor.merged_metrics.families(), "ws_connections_active") == 3


async def test_silent_worker_keeps_its_last_metrics(autojump_clock: MockClock) -> None:
    """`check` returns False for it."""
    crew = Crew()
    async with supervising(crew) as run:
        crew.now(1).counts(100)
        await run.supervisor.check()
        crew.now(1).hangs = True
        assert await run.supervisor.check() == {1: False, 2: True}
        assert total(run.supervisor.merged_metrics.families(), "ws_messages_sent_total") == 100


def total(families: Iterable[Metric], name: str) -> float:
    """Return the sum of a metric's samples."""
    return sum(s.value for family in families for s in family.samples if s.name == name)
