"""Position validation: a result that no longer applies is discarded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.kafka.fetch_result import Effect
from odin_ws.kafka.partition import PartitionState
from odin_ws.kafka.position_validation import PositionValidation
from odin_ws.records import GapReason, TopicPartition

KEY = TopicPartition("odin.trades", 0)


def looking_up() -> Any:
    """A partition that broker 0 leads and whose position is in question."""
    return SimpleNamespace(
        key=KEY,
        state=PartitionState.LOOKING_UP,
        leader=0,
        leader_epoch=4,
        lookup=None,
        may_be_recreated=lambda _now, _longest: False,
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"leader": 1},
        {"leader_epoch": 5},
        {"lookup": GapReason.RECREATED},
        {"state": PartitionState.READING},
        {"replaced": True},
    ],
    ids=str,
)
async def test_result_applies_only_to_the_partition_as_it_was_asked_about(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, change: dict[str, Any]
) -> None:
    """After another leader, epoch or reason the broker's answer is about something else."""
    answered = trio.Event()
    asked: list[Any] = []
    applied: list[Any] = []

    async def look_up(_brokers: Any, _node: int, lost: Any) -> dict[TopicPartition, None]:
        await answered.wait()
        # Once: a partition that is still in question is asked about again.
        asked.append(lost)
        if len(asked) > 1:
            await trio.sleep_forever()
        return {KEY: None}

    def apply_outcome(partition: Any, _outcome: None, _now: float) -> Effect:
        partition.state = PartitionState.READING
        applied.append(partition)
        return Effect.NONE

    module = "odin_ws.kafka.position_validation"
    monkeypatch.setattr(f"{module}.look_up", look_up)
    monkeypatch.setattr(f"{module}.apply_outcome", apply_outcome)
    partition = looking_up()
    partitions = {KEY: partition}
    brokers: Any = None
    validation = PositionValidation(
        brokers,
        partitions,
        wait_changed=trio.sleep_forever,
        longest_unseen=lambda _node: 0.0,
        apply_effect=lambda _partition, _effect: None,
        notify=lambda: None,
    )
    nursery.start_soon(validation.run, 0)
    await wait_all_tasks_blocked()
    if "replaced" in change:
        partitions[KEY] = looking_up()
        partitions[KEY].state = PartitionState.READING
    else:
        vars(partition).update(change)
    answered.set()
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()
    assert bool(applied) == (not change)
