"""Where a client says it is: read as it is meant, or rejected with the field that is wrong."""

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

MOST = 2**63 - 1
NO_OFFSETS: list[object] = [None, "1", "", True, False, 1.0, -2, MOST + 1, [], {}]
NO_OBJECTS: list[object] = [None, [], [["odin.trades", 1]], "odin.trades", 7, True]
# fmt: off
NO_PARTITIONS = [
    "", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "1 ", "0x1", "x", "\u0661", "\u00b2",
    "2147483648", "9" * 19, "9" * 30,
]
NO_CHANNELS = [
    "", "BTC", "trade", ".trade", "BTC.", "BTC.rumour", "BTC.TRADING", "TRADING", "odin.trades",
    "BTC.*", "*.*", "*.trade", "B*.trade", "x" * 129 + ".trade", "\u00e9" * 65 + ".trade",
]
NO_POS: list[object] = [
    None, 7, [], {}, ["0-1"], "", "-", "1", "0-", "-1", "0--1", "-0-1", "0-1-2", "0:1", "0-1 ",
    " 0-1", "00-1", "0-01", "+0-1", "0-1\n", "\u0660-1", f"0-{MOST + 1}", "2147483648-0",
    "9" * 40 + "-1",
]
# fmt: on


def read_positions(value: object, catalogue: Catalogue) -> dict[TopicPartition, int]:
    """All steps at once."""
    return finish(steps.read_positions(value, catalogue))


def read_last_positions(
    value: object, catalogue: Catalogue
) -> dict[str, dict[TopicPartition, int]]:
    """All steps at once."""
    return finish(steps.read_last_positions(value, catalogue))


# ---- positions of a resume


def test_positions_are_by_topic_and_partition() -> None:
    """From before the first record to the last offset there can be, in as many partitions."""
    given = {
        "odin.trades": {"0": -1, "1": 0, "11": MOST, "2147483647": 5},
        "odin.social": {"0": 3},
        "odin.metadata": {},
    }
    assert read_positions(given, CATALOGUE) == {
        TopicPartition("odin.trades", 0): -1,
        TopicPartition("odin.trades", 1): 0,
        TopicPartition("odin.trades", 11): MOST,
        TopicPartition("odin.trades", 2_147_483_647): 5,
        TopicPartition("odin.social", 0): 3,
    }
    assert read_positions({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NO_OBJECTS, ids=repr)
def test_positions_are_an_object(value: object) -> None:
    """And so are those of a topic."""
    rejects(read_positions, value, "data.positions", "{topic: {partition: offset}}")
    given = {"odin.trades": value}
    rejects(read_positions, given, "data.positions.odin.trades", "{partition: offset}")


@pytest.mark.parametrize("topic", ["", "trade", "odin.trade", "odin.trades ", "BTC.trade"])
def test_positions_are_of_topics_that_there_are(topic: str) -> None:
    """The answer says which: a topic left out in silence would be a hole."""
    error = rejects(read_positions, {topic: {"0": 1}}, f"data.positions.{topic}", "odin.trades")
    assert all(name in error.message for name in CATALOGUE.topics)


def test_a_topic_has_at_most_1024_partitions() -> None:
    """Each that does not exist is looked for: with thousands a few clients would be all load."""
    maximum = {str(number): 0 for number in range(1024)}
    assert len(read_positions({"odin.trades": maximum, "odin.social": maximum}, CATALOGUE)) == 2048
    more = {"odin.trades": {**maximum, "1024": 0}}
    rejects(read_positions, more, "data.positions.odin.trades", "1025 partitions: at most 1024")


@pytest.mark.parametrize("partition", NO_PARTITIONS)
def test_a_partition_is_a_number_from_0_on(partition: str) -> None:
    """In one way only, so that no partition is told of twice."""
    given = {"odin.trades": {partition: 1}}
    rejects(read_positions, given, "data.positions.odin.trades", repr(partition))


@pytest.mark.parametrize("offset", NO_OFFSETS, ids=repr)
def test_a_position_is_an_offset(offset: object) -> None:
    """An integer from -1 to the most that Kafka knows."""
    given = {"odin.trades": {"0": 1, "3": offset}}
    rejects(read_positions, given, "data.positions.odin.trades.3", "-1 or more")


# ---- last_pos of a reconnect


def test_last_positions_are_by_channel() -> None:
    """The `pos` of messages, as they were given."""
    given = {"BTC.trade": "3-1250", "a.b.c.social": "0-0", "X.trade": f"11-{MOST}"}
    assert read_last_positions(given, CATALOGUE) == {
        "BTC.trade": {TopicPartition("odin.trades", 3): 1250},
        "a.b.c.social": {TopicPartition("odin.social", 0): 0},
        "X.trade": {TopicPartition("odin.trades", 11): MOST},
    }
    assert read_last_positions({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NO_OBJECTS, ids=repr)
def test_last_positions_are_an_object(value: object) -> None:
    """The answer shows what one looks like."""
    rejects(read_last_positions, value, "data.last_pos", '{channel: "partition-offset"}')


@pytest.mark.parametrize("channel", NO_CHANNELS, ids=range(len(NO_CHANNELS)))
def test_a_last_position_is_of_a_channel(channel: str) -> None:
    """A pos is a place in one partition; of what spans several it would tell too little."""
    given = {"ETH.trade": "0-1", channel: "0-1"}
    rejects(read_last_positions, given, f"data.last_pos.{channel}", "{token}.{category}")


@pytest.mark.parametrize("pos", NO_POS, ids=repr)
def test_a_last_position_is_the_pos_of_a_message(pos: object) -> None:
    """Nothing else is taken for one."""
    given = {"BTC.trade": pos}
    rejects(read_last_positions, given, "data.last_pos.BTC.trade", '"partition-offset"')


# ---- last_offset of an original reconnect


def test_last_offsets_are_by_topic() -> None:
    """As the earlier server's clients have them."""
    given = {"odin.trades": 5, "odin.social": -1, "odin.metadata": MOST}
    assert read_last_offsets(given, CATALOGUE) == given
    assert read_last_offsets({}, CATALOGUE) == {}


@pytest.mark.parametrize("value", NO_OBJECTS, ids=repr)
def test_last_offsets_are_an_object(value: object) -> None:
    """The answer shows what one looks like."""
    rejects(read_last_offsets, value, "data.last_offset", "{topic: offset}")


def test_last_offsets_are_of_topics_that_there_are() -> None:
    """Of whichever it is not, the answer says so."""
    given = {"odin.trades": 5, "odin.trade": 5}
    rejects(read_last_offsets, given, "data.last_offset.odin.trade", "odin.balances")


@pytest.mark.parametrize("offset", NO_OFFSETS, ids=repr)
def test_a_last_offset_is_an_offset(offset: object) -> None:
    """An integer from -1 on."""
    given = {"odin.social": 1, "odin.trades": offset}
    rejects(read_last_offsets, given, "data.last_offset.odin.trades", "-1 or more")


def rejects(read: Any, value: object, field: str, allowed: str) -> CommandError:
    """Reading is rejected with the field and what is allowed there."""
    with pytest.raises(CommandError) as caught:
        read(value, CATALOGUE)
    error = caught.value
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.startswith(f"{field}: ")
    assert allowed in error.message
    return error
