"""Positions in a command are parsed, or rejected with the name of the wrong field."""

from __future__ import annotations

from typing import Any

import pytest

from odin_ws.catalogue import Catalogue
from odin_ws.protocol import position_parser as steps
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.position_parser import read_last_offsets
from odin_ws.records import TopicPartition
from odin_ws.steps import finish
from tests.protocol.commands import CATALOGUE

MAX_OFFSET = 2**63 - 1
INVALID_OFFSETS: list[object] = [None, "1", "", True, False, 1.0, -2, MAX_OFFSET + 1, [], {}]
NON_OBJECTS: list[object] = [None, [], [["odin.trades", 1]], "odin.trades", 7, True]
# fmt: off
INVALID_PARTITIONS = [
    "", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "1 ", "0x1", "x", "\u0661", "\u00b2",
    "2147483648", "9" * 19, "9" * 30,
]
INVALID_CHANNELS = [
    "", "BTC", "trade", ".trade", "BTC.", "BTC.rumour", "BTC.TRADING", "TRADING", "odin.trades",
    "BTC.*", "*.*", "*.trade", "B*.trade", "x" * 129 + ".trade", "\u00e9" * 65 + ".trade",
]
INVALID_POS: list[object] = [
    None, 7, [], {}, ["0-1"], "", "-", "1", "0-", "-1", "0--1", "-0-1", "0-1-2", "0:1", "0-1 ",
    " 0-1", "00-1", "0-01", "+0-1", "0-1\n", "\u0660-1", f"0-{MAX_OFFSET + 1}", "2147483648-0",
    "9" * 40 + "-1",
]
# fmt: on


def read_positions(value: object, catalogue: Catalogue) -> dict[TopicPartition, int]:
    """Run all steps of the parser at once."""
    return finish(steps.read_positions(value, catalogue))


def read_last_positions(
    value: object, catalogue: Catalogue
) -> dict[str, dict[TopicPartition, int]]:
    """Run all steps of the parser at once."""
    return finish(steps.read_last_positions(value, catalogue))


# ---- `positions` of a resume


def test_positions_map_topic_and_partition_to_offset() -> None:
    """-1, meaning before the first record, and the largest offset of Kafka are valid."""
    given = {
        "odin.trades": {"0": -1, "1": 0, "11": MAX_OFFSET, "2147483647": 5},
        "odin.social": {"0": 3},
        "odin.metadata": {},
    }
    assert read_positions(given, CATALOGUE) == {
        TopicPartition("odin.trades", 0): -1,
        TopicPartition("odin.trades", 1): 0,
        TopicPartition("odin.trades", 11): MAX_OFFSET,
        TopicPartition("odin.trades", 2_147_483_647): 5,
        TopicPartition("odin.social", 0): 3,
    }
    assert read_positions({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NON_OBJECTS, ids=repr)
def test_positions_other_than_object_are_rejected(value: object) -> None:
    """The value of a topic has to be an object too."""
    assert_rejected(read_positions, value, "data.positions", "{topic: {partition: offset}}")
    given = {"odin.trades": value}
    assert_rejected(read_positions, given, "data.positions.odin.trades", "{partition: offset}")


@pytest.mark.parametrize("topic", ["", "trade", "odin.trade", "odin.trades ", "BTC.trade"])
def test_positions_of_unknown_topic_are_rejected(topic: str) -> None:
    """The error lists the topics: ignoring the name would lose records silently."""
    error = assert_rejected(
        read_positions, {topic: {"0": 1}}, f"data.positions.{topic}", "odin.trades"
    )
    assert all(name in error.message for name in CATALOGUE.topics)


def test_positions_of_more_than_1024_partitions_are_rejected() -> None:
    """The server looks up each partition that does not exist: thousands of them would be a load."""
    maximum = {str(number): 0 for number in range(1024)}
    assert len(read_positions({"odin.trades": maximum, "odin.social": maximum}, CATALOGUE)) == 2048
    more = {"odin.trades": {**maximum, "1024": 0}}
    assert_rejected(
        read_positions, more, "data.positions.odin.trades", "at most 1024 partitions, not 1025"
    )


@pytest.mark.parametrize("partition", INVALID_PARTITIONS)
def test_partition_other_than_plain_integer_is_rejected(partition: str) -> None:
    """Each partition has one spelling, so that it cannot be given twice."""
    given = {"odin.trades": {partition: 1}}
    assert_rejected(read_positions, given, "data.positions.odin.trades", repr(partition))


@pytest.mark.parametrize("offset", INVALID_OFFSETS, ids=repr)
def test_position_other_than_offset_is_rejected(offset: object) -> None:
    """An offset is an integer from -1 to 2**63 - 1."""
    given = {"odin.trades": {"0": 1, "3": offset}}
    assert_rejected(read_positions, given, "data.positions.odin.trades.3", "from -1 to")


# ---- `last_pos` of a reconnect


def test_last_pos_maps_channel_to_partition_and_offset() -> None:
    """The values are the `pos` of messages."""
    given = {"BTC.trade": "3-1250", "a.b.c.social": "0-0", "X.trade": f"11-{MAX_OFFSET}"}
    assert read_last_positions(given, CATALOGUE) == {
        "BTC.trade": {TopicPartition("odin.trades", 3): 1250},
        "a.b.c.social": {TopicPartition("odin.social", 0): 0},
        "X.trade": {TopicPartition("odin.trades", 11): MAX_OFFSET},
    }
    assert read_last_positions({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NON_OBJECTS, ids=repr)
def test_last_pos_other_than_object_is_rejected(value: object) -> None:
    """The error shows an example."""
    assert_rejected(read_last_positions, value, "data.last_pos", '{channel: "partition-offset"}')


@pytest.mark.parametrize("channel", INVALID_CHANNELS, ids=range(len(INVALID_CHANNELS)))
def test_last_pos_of_name_other_than_channel_is_rejected(channel: str) -> None:
    """A `pos` has one partition; a pattern or topic spans several."""
    given = {"ETH.trade": "0-1", channel: "0-1"}
    assert_rejected(read_last_positions, given, f"data.last_pos.{channel}", "{token}.{category}")


@pytest.mark.parametrize("pos", INVALID_POS, ids=repr)
def test_last_pos_value_other_than_pos_is_rejected(pos: object) -> None:
    """The error shows the format."""
    given = {"BTC.trade": pos}
    assert_rejected(read_last_positions, given, "data.last_pos.BTC.trade", '"partition-offset"')


# ---- `last_offset` of a v0 reconnect


def test_last_offset_maps_topic_to_offset() -> None:
    """Clients of the earlier server send one offset for each topic."""
    given = {"odin.trades": 5, "odin.social": -1, "odin.metadata": MAX_OFFSET}
    assert read_last_offsets(given, CATALOGUE) == given
    assert read_last_offsets({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NON_OBJECTS, ids=repr)
def test_last_offset_other_than_object_is_rejected(value: object) -> None:
    """The error shows an example."""
    assert_rejected(read_last_offsets, value, "data.last_offset", "{topic: offset}")


def test_last_offset_of_unknown_topic_is_rejected() -> None:
    """The error names the unknown topic and lists the known ones."""
    given = {"odin.trades": 5, "odin.trade": 5}
    assert_rejected(read_last_offsets, given, "data.last_offset.odin.trade", "odin.balances")


@pytest.mark.parametrize("offset", INVALID_OFFSETS, ids=repr)
def test_last_offset_value_other_than_offset_is_rejected(offset: object) -> None:
    """An offset is an integer from -1 on."""
    given = {"odin.social": 1, "odin.trades": offset}
    assert_rejected(read_last_offsets, given, "data.last_offset.odin.trades", "from -1 to")


def assert_rejected(read: Any, value: object, field: str, allowed: str) -> CommandError:
    """Assert that `read` rejects the value, naming the field and what is allowed."""
    with pytest.raises(CommandError) as caught:
        read(value, CATALOGUE)
    error = caught.value
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.startswith(f"{field}: ")
    assert allowed in error.message
    return error


# ---- `ids` of a resume


@pytest.mark.parametrize(
    ("ids", "field"),
    [
        *((value, "data.ids: must be an object") for value in NON_OBJECTS),
        ({"odin.rumours": "a"}, "data.ids.odin.rumours: unknown topic"),
        *(
            ({"odin.trades": value}, "data.ids.odin.trades: must be a string of 1 to ")
            for value in (None, "", 7, ["a"], "x" * 1000)
        ),
    ],
)
def test_invalid_ids_are_rejected(ids: object, field: str) -> None:
    """The error names the topic."""
    with pytest.raises(CommandError) as raised:
        steps.read_ids(ids, CATALOGUE)
    assert raised.value.code is ErrorCode.INVALID_MESSAGE
    assert raised.value.message.startswith(field)
