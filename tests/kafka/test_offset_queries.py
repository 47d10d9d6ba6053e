"""Offset queries: each partition has its own result."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from odin_ws.kafka.client import Purpose
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.offset_queries import Offsets, list_offsets
from odin_ws.kafka.protocol import EARLIEST, LATEST, ListOffsetsRequest, OffsetFound
from odin_ws.records import TopicPartition

KEYS = [TopicPartition("odin.trades", number) for number in range(5)]
ENDS = dict.fromkeys(KEYS, LATEST)


@attrs.define
class Leaders:
    """Brokers that take a while to answer, or that are away. `asked`: by node."""

    responses: Mapping[int, Mapping[TopicPartition, OffsetFound]]
    seconds: float = 0
    away: Mapping[int, str] = attrs.field(factory=dict)
    asked: dict[int, Mapping[TopicPartition, int]] = attrs.field(factory=dict)

    async def send(
        self,
        node: int,
        request: Any,
        _purpose: Purpose = Purpose.QUERY,
        _wait_seconds: float = 0,
    ) -> Any:
        """See Brokers."""
        assert isinstance(request, ListOffsetsRequest)
        assert node not in self.asked
        self.asked[node] = request.times
        await trio.sleep(self.seconds)
        if node in self.away:
            raise KafkaUnavailable(self.away[node])
        return self.responses[node]


async def test_leaders_get_one_request_each_in_parallel(
    autojump_clock: MockClock,
) -> None:
    """It takes as long as the slowest."""
    leaders = Leaders({1: {KEYS[0]: OffsetFound(0, 5, 4), KEYS[2]: OffsetFound(0, -1)}, 2: {}}, 3)
    leaders.responses = {**leaders.responses, 2: {KEYS[1]: OffsetFound(0, 7)}}
    times = {KEYS[0]: LATEST, KEYS[1]: EARLIEST, KEYS[2]: 1_000}
    found = await list_offsets(leaders, times, {KEYS[0]: 1, KEYS[1]: 2, KEYS[2]: 1})
    assert found.found == {KEYS[0]: 5, KEYS[1]: 7, KEYS[2]: -1}
    assert found.epochs == {KEYS[0]: 4, KEYS[1]: -1, KEYS[2]: -1}
    assert found.failed == {}
    assert leaders.asked == {1: {KEYS[0]: LATEST, KEYS[2]: 1_000}, 2: {KEYS[1]: EARLIEST}}
    assert trio.current_time() == 3


async def test_partition_errors_are_separate() -> None:
    """No leader, a lost leader, an error, or missing in the response."""
    leaders = Leaders(
        {1: {KEYS[0]: OffsetFound(0, 5), KEYS[1]: OffsetFound(6, -1)}},
        away={2: "broker 2: connection refused"},
    )
    where = {KEYS[0]: 1, KEYS[1]: 1, KEYS[2]: 1, KEYS[3]: 2, KEYS[4]: None}
    found = await list_offsets(leaders, ENDS, where)
    assert found.found == {KEYS[0]: 5}
    assert found.failed == {
        KEYS[1]: "NOT_LEADER_FOR_PARTITION (6)",
        KEYS[2]: "missing in the leader's response",
        KEYS[3]: "broker 2: connection refused",
        KEYS[4]: "no leader",
    }


async def test_missing_permission_is_describe() -> None:
    """A fetch would need READ."""
    leaders = Leaders({1: {KEYS[0]: OffsetFound(29, -1)}})
    found = await list_offsets(leaders, {KEYS[0]: LATEST}, {KEYS[0]: 1})
    assert found.failed == {KEYS[0]: "not authorized to see the topic (DESCRIBE)"}


async def test_unknown_partition_has_no_leader() -> None:
    """No request is sent."""
    leaders = Leaders({})
    assert (await list_offsets(leaders, {KEYS[0]: LATEST}, {})).failed == {KEYS[0]: "no leader"}
    assert await list_offsets(leaders, {}, {}) == Offsets()
    assert leaders.asked == {}
