"""Plans of fetches: one that continues the last plan is the same as one made anew."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.kafka.fetch_plan import PARTITION_BYTES, FetchPlanner, plan_fetch
from odin_ws.kafka.partition import Partition
from odin_ws.records import Record, TopicPartition

KEYS = [TopicPartition("odin.trades", number) for number in range(4)]
RECORD = Record("odin.trades", 0, 0, 0, b"BTC", b"{}")


def readable(key: TopicPartition) -> Partition:
    """A partition that was fetched before."""
    partition = Partition(key, 0, leader=0)
    partition.mark_fetched()
    return partition


def change(partition: Partition, what: str) -> None:
    """Do to a partition what a response or the source does."""
    match what:
        case "records":
            partition.position += 1
            partition.buffer([RECORD], 100)
        case "many records":
            partition.position += 1
            partition.buffer([RECORD], PARTITION_BYTES)
        case "fail":
            partition.fail("no leader", 0.0)
        case "look up":
            partition.look_up()
        case "large batch":
            partition.fetch_bytes = 8 * PARTITION_BYTES
        case "usual batch":
            partition.fetch_bytes = None
        case _:
            partition.clear()


CHANGES = st.sampled_from(
    ["records", "many records", "fail", "look up", "large batch", "usual batch"]
)
RESPONSES = st.lists(st.tuples(st.sampled_from(range(4)), CHANGES), max_size=4)


@given(st.lists(st.tuples(RESPONSES, st.sets(st.sampled_from(range(4)))), max_size=12))
def test_plan_after_responses_equals_a_new_plan(
    rounds: Sequence[tuple[Sequence[tuple[int, str]], set[int]]],
) -> None:
    """Whatever responses change, and whatever the source takes meanwhile."""
    partitions = [readable(key) for key in KEYS]
    planner, version, now = FetchPlanner(), object(), 0.0
    for response, taken in rounds:
        for number, what in response:
            change(partitions[number], what)
            planner.touch(partitions[number])
        for number in taken:
            change(partitions[number], "take")
        now += 0.05
        plan = planner.plan(lambda: partitions, now, version)
        assert attrs.evolve(plan, moved=None) == plan_fetch(partitions, now)


def test_only_partitions_of_the_last_response_are_planned_again() -> None:
    """Others are not even looked at, as long as nothing else has changed."""
    partitions = [readable(key) for key in KEYS]
    planner, version = FetchPlanner(), object()
    assert planner.plan(lambda: partitions, 0.0, version).moved is None
    change(partitions[1], "records")
    planner.touch(partitions[1])
    plan = planner.plan(list, 0.0, version)
    assert plan.moved == [KEYS[1]]
    assert [where.offset for where in plan.wanted.values()] == [0, 1, 0, 0]
    assert planner.plan(list, 0.0, object()).wanted == {}


def test_all_partitions_are_planned_again_after_a_failed_fetch() -> None:
    """The failure may have become a problem of each."""
    partitions = [readable(key) for key in KEYS]
    planner, version = FetchPlanner(), object()
    planner.plan(lambda: partitions, 0.0, version)
    partitions[2].record_problem("connection refused", 0.0)
    planner.forget()
    plan = planner.plan(lambda: partitions, 0.0, version)
    assert plan.moved is None
    assert plan.unconfirmed == [KEYS[2]]
