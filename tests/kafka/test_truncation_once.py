"""An unclean election: a record that the log has once is delivered once.

Offsets are given anew after a truncation, so each record here has a value of its own.
"""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from odin_ws.records import GapReason
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.sources import PATIENCE, TRADES, Received, sourcing, whole

KEPT, CUT = 6, 4

# How brokers show that a log was truncated: `epochs` by the end of the last record's epoch, `ends`
# only by the end of the log.
WAYS: Final = {
    "epochs": {},
    "epochs-without-their-ends": {"answers_epoch_ends": False},
    "ends": {"has_epochs": False},
}


def publish(cluster: FakeCluster, name: str, count: int) -> list[bytes]:
    """Append records, each in a batch of its own; returns their values."""
    values = [b'"%s%d"' % (name.encode(), number) for number in range(count)]
    for value in values:
        cluster.logs[TRADES].append([value])
    cluster.change()
    return values


def values(received: Received) -> list[bytes | None]:
    """What was delivered, in order."""
    return [one.value for one in received.news]


def truncations(received: Received) -> int:
    """How often clients were told of a truncation."""
    gaps = [
        assignment.gaps[TRADES] for assignment in received.assignments if TRADES in assignment.gaps
    ]
    assert set(gaps) <= {GapReason.TRUNCATED}
    return len(gaps)


def unclean(cluster: FakeCluster, node: int) -> None:
    """Elect a node that lacks the last records."""
    cluster.move(TRADES, node, keeps=KEPT)


@pytest.fixture(params=WAYS)
def cluster(request: pytest.FixtureRequest) -> FakeCluster:
    """A cluster of brokers that show a truncation in one of the ways."""
    cluster = whole()
    for name, value in WAYS[request.param].items():
        setattr(cluster, name, value)
    cluster.leaders[TRADES] = 0
    return cluster


async def test_records_of_the_shorter_log_come_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    """Those that it had before the election do not come again; later ones come once."""
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        kept = publish(cluster, "kept", KEPT)
        cut = publish(cluster, "cut", CUT)
        await trio.sleep(1)
        unclean(cluster, 1)
        await trio.sleep(PATIENCE)
        new = publish(cluster, "new", 3)
        await trio.sleep(PATIENCE)
        assert values(received) == [*kept, *cut, *new]
        assert truncations(received) == 1


async def test_former_leader_leads_again_after_it_followed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    """It has truncated its log by then: the preferred election after a restart of brokers."""
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        kept = publish(cluster, "kept", KEPT)
        cut = publish(cluster, "cut", CUT)
        await trio.sleep(1)
        unclean(cluster, 1)
        await trio.sleep(PATIENCE)
        new = publish(cluster, "new", 3)
        await trio.sleep(1)
        for node in 0, 1, 0:
            cluster.move(TRADES, node)
            new += publish(cluster, f"node{node}-{len(new)}-", 2)
            await trio.sleep(PATIENCE)
        assert values(received) == [*kept, *cut, *new]
        assert truncations(received) == 1


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 1.0])
async def test_leader_with_all_records_returns_during_the_lookups(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    cluster: FakeCluster,
    seconds: float,
) -> None:
    """Whether or not the truncation was confirmed by then, nothing comes twice."""
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        kept = publish(cluster, "kept", KEPT)
        cut = publish(cluster, "cut", CUT)
        await trio.sleep(1)
        whole_log = deepcopy(cluster.logs[TRADES])
        unclean(cluster, 1)
        await trio.sleep(seconds)
        whole_log.epoch = cluster.logs[TRADES].epoch
        cluster.logs[TRADES] = whole_log
        cluster.move(TRADES, 0)
        await trio.sleep(PATIENCE)
        new = publish(cluster, "new", 3)
        await trio.sleep(PATIENCE)
        counts = Counter(values(received))
        assert counts == Counter([*kept, *cut, *new]), truncations(received)


async def test_two_elections_in_a_row(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    """Each takes records away; those that are left and those that follow come once."""
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(1)
        before = publish(cluster, "kept", KEPT) + publish(cluster, "cut", CUT)
        await trio.sleep(1)
        unclean(cluster, 1)
        await trio.sleep(PATIENCE)
        middle = publish(cluster, "middle", CUT)
        await trio.sleep(1)
        unclean(cluster, 2)
        await trio.sleep(PATIENCE)
        new = publish(cluster, "new", CUT + 3)
        await trio.sleep(PATIENCE)
        assert values(received) == [*before, *middle, *new]
        assert truncations(received) == 2
