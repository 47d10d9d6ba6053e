"""Parses positions that clients send: offsets per partition, topic ids."""

from __future__ import annotations

import re
from typing import Any, Final

from odin_ws.catalogue import Catalogue, is_token
from odin_ws.pattern import Pattern
from odin_ws.protocol.errors import CommandError, ErrorCode, shown
from odin_ws.records import TopicPartition, topic_partition
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["read_ids", "read_last_offsets", "read_last_positions", "read_positions"]

# Kafka's partitions have 31 bits and offsets 63.
_MAX_PARTITION: Final = (1 << 31) - 1
_MAX_OFFSET: Final = (1 << 63) - 1

# Limit of partitions per topic, as for names in a list: each one that does not exist is looked up
# and reported.
_MAX_PARTITIONS: Final = 1024

# Kafka's ids are 32 hexadecimal digits; clients treat them as opaque.
_MAX_ID_LENGTH: Final = 64

_NUMBER: Final = r"0|[1-9][0-9]{0,18}"
_PARTITION: Final = re.compile(_NUMBER, re.ASCII)
_POS: Final = re.compile(rf"({_NUMBER})-({_NUMBER})", re.ASCII)


def read_positions(value: object, catalogue: Catalogue) -> Steps[dict[TopicPartition, int]]:
    """Parse `{topic: {partition: last received offset}}`; -1 is before a partition's first record.

    Raises CommandError.
    """
    if not isinstance(value, dict):
        raise _invalid("data.positions", "must be an object {topic: {partition: offset}}")
    positions = {}
    for topic, partitions in value.items():
        where = f"data.positions.{shown(topic)}"
        if topic not in catalogue.topics:
            raise _invalid(where, f"unknown topic: must be one of {', '.join(catalogue.topics)}")
        if not isinstance(partitions, dict):
            raise _invalid(where, "must be an object {partition: offset}")
        if len(partitions) > _MAX_PARTITIONS:
            raise _invalid(
                where, f"must have at most {_MAX_PARTITIONS} partitions, not {len(partitions)}"
            )
        for name, offset in partitions.items():
            if not _PARTITION.fullmatch(name) or int(name) > _MAX_PARTITION:
                raise _invalid(
                    where, f"a partition must be a number, 0 or more, not {shown(repr(name))}"
                )
            positions[topic_partition(topic, int(name))] = _offset(offset, f"{where}.{name}")
            if not len(positions) % STEP_ITEMS:
                yield
    return positions


def read_ids(value: object, catalogue: Catalogue) -> dict[str, str]:
    """Parse `{topic: id}` with ids from the server. Raises CommandError."""
    if not isinstance(value, dict):
        raise _invalid("data.ids", "must be an object {topic: id}")
    for topic, topic_id in value.items():
        where = f"data.ids.{shown(topic)}"
        if topic not in catalogue.topics:
            raise _invalid(where, f"unknown topic: must be one of {', '.join(catalogue.topics)}")
        if not isinstance(topic_id, str) or not 0 < len(topic_id) <= _MAX_ID_LENGTH:
            raise _invalid(where, f"must be a string of 1 to {_MAX_ID_LENGTH} characters")
    return value


def read_last_positions(
    value: object, catalogue: Catalogue
) -> Steps[dict[str, dict[TopicPartition, int]]]:
    """Parse `{channel: pos of the last received message}`. Raises CommandError."""
    if not isinstance(value, dict):
        raise _invalid("data.last_pos", 'must be an object {channel: "partition-offset"}')
    positions = {}
    for channel, pos in value.items():
        where = f"data.last_pos.{shown(channel)}"
        token, category = Pattern.parse(channel) if "." in channel else Pattern("", channel)
        if not is_token(token) or category not in catalogue.categories:
            raise _invalid(where, "must be a channel {token}.{category}")
        found = _POS.fullmatch(pos) if isinstance(pos, str) else None
        if not found or int(found[1]) > _MAX_PARTITION or int(found[2]) > _MAX_OFFSET:
            raise _invalid(where, 'must be the pos of a message, "partition-offset"')
        key = TopicPartition(catalogue.categories[category].name, int(found[1]))
        positions[channel] = {key: int(found[2])}
        if not len(positions) % STEP_ITEMS:
            yield
    return positions


def read_last_offsets(value: object, catalogue: Catalogue) -> dict[str, int]:
    """Parse version 0's `{topic: offset}`. Raises CommandError."""
    if not isinstance(value, dict):
        raise _invalid("data.last_offset", "must be an object {topic: offset}")
    for topic, offset in value.items():
        if topic not in catalogue.topics:
            known = ", ".join(catalogue.topics)
            raise _invalid(
                f"data.last_offset.{shown(topic)}", f"unknown topic: must be one of {known}"
            )
        _offset(offset, f"data.last_offset.{topic}")
    return value


def _offset(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= _MAX_OFFSET:
        return value
    raise _invalid(where, f"must be an offset: an integer from -1 to {_MAX_OFFSET}")


def _invalid(where: str, allowed: str) -> CommandError:
    return CommandError(ErrorCode.INVALID_MESSAGE, f"{where}: {allowed}")
