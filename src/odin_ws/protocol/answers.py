"""What the server says besides messages: acks, pongs and errors, as JSON payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from odin_ws.protocol.commands import CommandError, Rejection
from odin_ws.protocol.envelope import Dialect

__all__ = ["error_answer", "pong", "subscription_ack", "unsubscription_ack"]

CommandId = str | int | None


def subscription_ack(  # noqa: PLR0913 -- an ack has that many fields
    command_id: CommandId,
    dialect: Dialect,
    *,
    subscribed: Sequence[str],
    rejected: Sequence[Rejection],
    count: int,
    positions: Mapping[str, Mapping[int, int]] | None = None,
    partitions: Mapping[str, Sequence[int]] | None = None,
) -> bytes:
    """`subscribed`: the names that took effect; `count`: patterns the connection now has.

    `positions`: `{topic: {partition: offset}}`, the offsets after which the subscription is live.
    `partitions`: `{topic: [partition]}`, given by an instance that serves only some of them.
    """
    ack = _ack("subscription_ack", command_id, dialect, {"subscribed": subscribed}, rejected)
    ack["count"] = count
    if positions is not None:
        ack["positions"] = positions
    if partitions is not None:
        ack["partitions"] = partitions
    return orjson.dumps(ack, option=orjson.OPT_NON_STR_KEYS)


def unsubscription_ack(
    command_id: CommandId,
    dialect: Dialect,
    *,
    unsubscribed: Sequence[str],
    rejected: Sequence[Rejection],
    count: int,
) -> bytes:
    """`unsubscribed`: the names that took effect; `count`: patterns the connection still has."""
    ack = _ack("unsubscription_ack", command_id, dialect, {"unsubscribed": unsubscribed}, rejected)
    ack["count"] = count
    return orjson.dumps(ack)


def pong(command_id: CommandId, now_ms: int) -> bytes:
    """The answer to `heartbeat`; `now_ms`: the server's clock, epoch milliseconds."""
    return orjson.dumps(_answer("pong", command_id, ts=now_ms))


def error_answer(error: CommandError) -> bytes:
    """The answer to a command that could not be carried out."""
    return orjson.dumps(
        _answer("error", error.id, code=error.code, message=error.message, retry=error.retry)
    )


def _ack(
    kind: str,
    command_id: CommandId,
    dialect: Dialect,
    done: Mapping[str, Sequence[str]],
    rejected: Sequence[Rejection],
) -> dict[str, Any]:
    fields: dict[str, Any] = dict(done)
    # The original's acks had no such field: its clients see it only where it says something.
    if rejected or dialect is not Dialect.V0:
        fields["rejected"] = [
            {"name": one.name, "code": one.code, "message": one.message} for one in rejected
        ]
    return _answer(kind, command_id, **fields)


def _answer(kind: str, command_id: CommandId, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": kind}
    if command_id is not None:
        answer["id"] = command_id
    return answer | fields
