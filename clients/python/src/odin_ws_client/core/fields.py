"""Parses the fields that different messages of the server have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from odin_ws_client.core.close_codes import LONGEST_WAIT
from odin_ws_client.core.errors import RejectedName, SubscriptionRejected
from odin_ws_client.core.items import Lost, Unsubscribed

__all__ = [
    "by_partition",
    "count_lost",
    "read_forced",
    "read_ids",
    "read_range",
    "read_rejected",
    "retry_seconds",
]

_FORBIDDEN: Final = "FORBIDDEN"

T = TypeVar("T")


def retry_seconds(fields: dict[str, Any]) -> float | None:
    """Return the seconds of an error's `retry_ms`, at most one day; None without the field."""
    retry_ms = fields.get("retry_ms")
    return None if retry_ms is None else min(max(0.0, float(retry_ms) / 1000), LONGEST_WAIT)


def read_rejected(fields: Mapping[str, Any]) -> tuple[RejectedName, ...]:
    """Return the names that an ack rejects."""
    return tuple(
        RejectedName(str(item["name"]), str(item["code"]), str(item["message"]))
        for item in fields.get("rejected", ())
    )


def read_forced(fields: dict[str, Any]) -> Unsubscribed:
    """Return the names that the server unsubscribed, because a new token does not grant them.

    Raises:
        SubscriptionRejected: if no subscribed name is left.
    """
    names = tuple(str(name) for name in fields["unsubscribed"])
    if not int(fields["count"]):
        why = "not granted by the new token"
        rejected = tuple(RejectedName(name, _FORBIDDEN, why) for name in names)
        raise SubscriptionRejected(_FORBIDDEN, "the new token grants none of the names", rejected)
    return Unsubscribed(names, forced=True)


def by_partition(
    topics: Mapping[str, Mapping[str, Any]], read: Callable[[Any], T]
) -> dict[str, dict[int, T]]:
    """Return `{topic: {partition: value}}` with integer partitions, which JSON has as text."""
    return {
        str(topic): {int(partition): read(value) for partition, value in partitions.items()}
        for topic, partitions in topics.items()
    }


def read_ids(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return `{topic: id}`; empty if the message has no ids."""
    return {str(topic): str(topic_id) for topic, topic_id in fields.get("ids", {}).items()}


def read_range(value: Any) -> tuple[int, int]:
    """Return the first and the last offset of a lost range."""
    first, last = value
    return int(first), int(last)


def count_lost(lost: Lost) -> int:
    """Return the number of lost offsets."""
    spans = [span for partitions in lost.values() for span in partitions.values()]
    return sum(max(0, last - first + 1) for first, last in spans)
