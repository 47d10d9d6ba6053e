"""The hub skips and counts invalid records, reports them as dead letters and logs a sample."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.records import Assignment, HistoryEnd, InvalidBatch, Record, TopicPartition
from tests.factories import record
from tests.hub.hub_driver import dispatching, make_hub
from tests.hub.joins import join


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(None), InvalidRecord.NO_KEY),
        (record(b"\xff"), InvalidRecord.BAD_KEY),
        (record(value=None), InvalidRecord.TOMBSTONE),
        (record(value=b'{"x":"' + b"x" * 1024 + b'"}'), InvalidRecord.TOO_LARGE),
        (record(value=b"{"), InvalidRecord.NOT_JSON),
        (record(value=b"[]"), InvalidRecord.NOT_AN_OBJECT),
        (record(b"BTC\n"), InvalidRecord.KEY_CONTROL_CHARACTERS),
        (record(b'"BTC"'), InvalidRecord.KEY_IN_QUOTES),
        (record(b"\x00\x00\x00\x00\x01BTC"), InvalidRecord.KEY_SCHEMA_PREFIX),
        (record(value=b"\x00\x00\x00\x00\x01{}"), InvalidRecord.VALUE_SCHEMA_PREFIX),
        *(
            (Record("odin.trades", 0, 0, -1, None, b"raw", reason), InvalidRecord(reason.value))
            for reason in InvalidBatch
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, InvalidRecord) else "",
)
async def test_invalid_record_is_counted_and_skipped(
    autojump_clock: MockClock, bad: Record, reason: InvalidRecord
) -> None:
    """The position moves beyond it, and the records before and after it are delivered."""
    hub = make_hub(max_record_bytes=1024)
    client = join(hub, "*.*")
    invalid = attrs.evolve(bad, offset=1)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), invalid, record(offset=2))
        assert client.positions == ["0-0", "0-2"]
        await feeder.publish(attrs.evolve(bad, offset=3))
        assert hub.stream.positions_of(["odin.trades"]) == {"odin.trades": {0: 3}}
    assert hub.stats.invalid_records == {reason: 2}
    assert len(client.writes) == 1


async def test_invalid_record_of_history_is_no_dead_letter(autojump_clock: MockClock) -> None:
    """Records from before the start were reported by the instances that ran then."""
    dead_letters: list[tuple[int, InvalidRecord]] = []
    hub = make_hub(on_invalid_record=lambda one, reason: dead_letters.append((one.offset, reason)))
    key = TopicPartition("odin.trades", 0)
    async with dispatching(hub) as feeder:
        await feeder.publish(Assignment({key: 2}, history={key: -1}))
        await feeder.publish(*(record(None, offset=offset) for offset in (0, 1, 2)), HistoryEnd())
        assert dead_letters == []
        await feeder.publish(record(None, offset=3), record(value=b"[", offset=4))
        # The source reads this record twice: it is reported once.
        await feeder.publish(record(None, offset=3))
    assert dead_letters == [(3, InvalidRecord.NO_KEY), (4, InvalidRecord.NOT_JSON)]
    assert hub.stats.invalid_records == {InvalidRecord.NO_KEY: 5, InvalidRecord.NOT_JSON: 1}


async def test_undecodable_batch_is_one_dead_letter(autojump_clock: MockClock) -> None:
    """The dead letter has the batch's bytes; the position moves to the batch's last offset."""
    dead_letters: list[tuple[Record, InvalidRecord]] = []
    hub = make_hub(on_invalid_record=lambda one, reason: dead_letters.append((one, reason)))
    bad = Record("odin.trades", 0, 9, 1, None, b"raw", InvalidBatch.BAD_COMPRESSION)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), bad, record(offset=10))
    assert dead_letters == [(bad, InvalidRecord.BAD_COMPRESSION)]
    assert hub.stream.positions_of(["odin.trades"]) == {"odin.trades": {0: 10}}


async def test_failing_27_invalid_records_are_logged_once_in_30_s_per_reason(
    autojump_clock: MockClock,
) -> None:
    """A line has the position of one record and the count since the start."""
    hub = make_hub()
    with capture_logs() as logs:
        async with dispatching(hub) as feeder:
            for second in range(61):
                for number in range(20):
                    offset = 20 * second + number
                    await feeder.publish(record(None, partition=3, offset=offset))
                if second == 7:
                    await feeder.publish(record(value=None))
                await trio.sleep(1)
    assert [(line["reason"], line["offset"], line["so_far"]) for line in logs] == [
        ("no_key", 0, 1),
        ("tombstone", 0, 1),
        ("no_key", 600, 601),
        ("no_key", 1200, 1201),
    ]
    assert {line["log_level"] for line in logs} == {"warning"}
    assert (logs[0]["topic"], logs[0]["partition"]) == ("odin.trades", 3)
