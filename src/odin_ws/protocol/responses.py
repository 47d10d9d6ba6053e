"""Writes acks (with their positions), errors and notices as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from odin_ws.log_reader import Span
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.json_text import dump_json
from odin_ws.protocol.selection import RejectedName

__all__ = [
    "Accepted",
    "Lost",
    "Replayed",
    "auth_ack",
    "auth_expiring",
    "error_response",
    "feed_notice",
    "lost_notice",
    "pong",
    "positions_notice",
    "reconnect_ack",
    "reconnect_advice",
    "replay_complete",
    "replay_incomplete",
    "resend_incomplete",
    "resume_ack",
    "subscription_ack",
    "unsubscription_ack",
]

CommandId = str | int | None

# `{topic: {partition: offset}}`
Positions = Mapping[str, Mapping[int, int]]

# `{topic: id}`
TopicIds = Mapping[str, str]

# The SDK's codes of a `reconnect_error`.
_RECONNECT_CODES: Final = {
    # The SDK treats `not_available` as final, and retries this one.
    ErrorCode.NOT_AVAILABLE: "rate_limited",
    ErrorCode.RATE_LIMIT_EXCEEDED: "rate_limited",
    ErrorCode.FORBIDDEN: "forbidden",
}


@attrs.frozen
class Accepted:
    """The effect of a command's names."""

    names: Sequence[str]
    """The accepted names as the client wrote them."""
    rejected: Sequence[RejectedName]
    count: int
    """The number of the connection's patterns afterwards."""
    positions: Positions | None = None
    """The offsets after which the patterns are live."""
    partitions: Mapping[str, Sequence[int]] | None = None
    """By topic the partitions of an instance that serves only some."""
    categories: Mapping[str, str] | None = None
    """By category its topic, to assign a message's `pos` to a topic."""
    ids: TopicIds | None = None
    """By topic its id, if brokers have ids."""


@attrs.frozen
class Lost:
    """Unavailable records by topic and partition, and the reason."""

    spans: Mapping[str, Mapping[int, Span]]
    reason: str


@attrs.frozen
class Replayed:
    """The start of a replay. `messages`: how many replayed ones follow; None: unknown yet."""

    messages: int | None
    lost: Lost | None = None


def subscription_ack(
    command_id: CommandId,
    dialect: Dialect,
    accepted: Accepted,
    replayed: Replayed | None = None,
) -> bytes:
    """Return the response to `subscribe`; `replayed`: for a start in the past."""
    ack = _ack("subscription_ack", command_id, dialect, "subscribed", accepted)
    if replayed is not None:
        ack |= _replay_fields(replayed)
    return _dump(ack)


def resume_ack(
    command_id: CommandId, dialect: Dialect, accepted: Accepted, replayed: Replayed
) -> bytes:
    """Return the response to `resume`; the replayed messages follow it."""
    ack = _ack("resume_ack", command_id, dialect, "subscribed", accepted)
    return _dump(ack | {"recovered": replayed.lost is None} | _replay_fields(replayed))


def reconnect_ack(command_id: CommandId, replayed: Replayed) -> bytes:
    """Return the response to `reconnect`."""
    lost = replayed.lost
    message = "all missed messages follow" if lost is None else f"messages are lost: {lost.reason}"
    ack = _response(
        "reconnect_ack",
        command_id,
        status="completed" if lost is None else "incomplete",
        messages_replayed=replayed.messages or 0,
        message=message,
    )
    return _dump(ack if lost is None else ack | _lost_fields(lost))


def unsubscription_ack(
    command_id: CommandId, dialect: Dialect, accepted: Accepted, *, forced: bool = False
) -> bytes:
    """Return the response to `unsubscribe`; `accepted.count`: remaining patterns.

    `forced`: the server ends the subscriptions, without a command.
    """
    ack = _ack("unsubscription_ack", command_id, dialect, "unsubscribed", accepted)
    return _dump(ack | {"forced": True} if forced else ack)


def auth_ack(command_id: CommandId, expires_at: float | None) -> bytes:
    """Return the response to `auth`; `expires_at`: epoch seconds of the new JWT; None: never."""
    return _dump(_response("auth_ack", command_id, data={"exp": int(expires_at or 0)}))


def auth_expiring(expires_in_ms: int) -> bytes:
    """Return the notice that the JWT, and with it the connection, ends in this time."""
    return _dump(_response("auth", None, status="expiring", expires_in_ms=expires_in_ms))


def replay_complete(
    command_id: CommandId,
    count: int,
    positions: Positions | None = None,
    ids: TopicIds | None = None,
) -> bytes:
    """Return the notice after the last replayed message, if the ack did not have their number.

    `positions`: for a client with other subscriptions: everything up to there was sent.
    """
    return _dump(
        _response("replay_complete", command_id, count=count) | _position_fields(positions, ids)
    )


def replay_incomplete(command_id: CommandId, count: int, lost: Lost) -> bytes:
    """Return the notice that the log has deleted the next records, after `count` messages."""
    return _dump(_response("replay_incomplete", command_id, count=count) | _lost_fields(lost))


def resend_incomplete(command_id: CommandId, count: int, missing: tuple[int, int]) -> bytes:
    """Return the notice that the numbers from..to are gone, after `count` resent messages."""
    return _dump(_response("replay_incomplete", command_id, count=count, missing=list(missing)))


def pong(command_id: CommandId, now_ms: int) -> bytes:
    """Return the response to `heartbeat`; `now_ms`: the server's clock, epoch milliseconds."""
    return _dump(_response("pong", command_id, ts=now_ms))


def error_response(error: CommandError) -> bytes:
    """Return the response to a command with an error."""
    retry = {} if error.retry_ms is None else {"retry_ms": error.retry_ms}
    if error.command == "reconnect":
        code = _RECONNECT_CODES.get(error.code, "invalid_request")
        response = _response("reconnect_error", error.id, code=code, message=error.message)
        return _dump(response | retry)
    if error.command == "auth":
        data = {"code": error.code.lower(), "message": error.message}
        return _dump(_response("auth_error", error.id, data=data | retry))
    response = _response(
        "error", error.id, code=error.code, message=error.message, retry=error.retry
    )
    return _dump(response | retry)


def feed_notice(status: str, since_ms: int, topics: Sequence[str] | None = None) -> bytes:
    """Return the notice `stalled` or `live`, since a time (epoch ms); for `topics` if given."""
    only = {} if topics is None else {"topics": topics}
    return _dump(_response("feed", None, status=status, since=since_ms, **only))


def lost_notice(
    lost: Lost, positions: Positions | None = None, ids: TopicIds | None = None
) -> bytes:
    """Return the notice of records that the log deleted or lost.

    `positions`: where partitions continue whose offsets restart, with the `ids` of their topics.
    """
    return _dump(
        _response("feed", None, status="lost")
        | _lost_fields(lost)
        | _position_fields(positions, ids)
    )


def positions_notice(positions: Positions, ids: TopicIds | None = None) -> bytes:
    """Return the notice that everything up to these offsets has been sent."""
    return _dump(_response("positions", None) | _position_fields(positions, ids))


def reconnect_advice(after_ms: int, reason: str = "draining") -> bytes:
    """Return the notice before a close 1012: reconnect time and reason."""
    return _dump(_response("reconnect", None, data={"after_ms": after_ms, "reason": reason}))


def _ack(
    kind: str, command_id: CommandId, dialect: Dialect, done: str, accepted: Accepted
) -> dict[str, Any]:
    fields: dict[str, Any] = {done: accepted.names}
    # The original's acks lack this field: its clients get it only if it has content.
    if accepted.rejected or dialect is not Dialect.V0:
        fields["rejected"] = [
            {"name": item.name, "code": item.code, "message": item.message}
            for item in accepted.rejected
        ]
    fields["count"] = accepted.count
    for field in ("positions", "partitions", "categories", "ids"):
        value = getattr(accepted, field)
        if value is not None:
            fields[field] = value
    return _response(kind, command_id, **fields)


def _replay_fields(replayed: Replayed) -> dict[str, Any]:
    lost = {} if replayed.lost is None else _lost_fields(replayed.lost)
    return {"replayed": replayed.messages} | lost


def _lost_fields(lost: Lost) -> dict[str, Any]:
    spans = {
        topic: {partition: list(span) for partition, span in partitions.items()}
        for topic, partitions in lost.spans.items()
    }
    return {"lost": spans, "reason": lost.reason}


def _position_fields(positions: Positions | None, ids: TopicIds | None) -> dict[str, Any]:
    fields: dict[str, Any] = {} if positions is None else {"positions": positions}
    return fields | {"ids": ids} if ids else fields


def _response(kind: str, command_id: CommandId, **fields: Any) -> dict[str, Any]:
    response: dict[str, Any] = {"type": kind}
    if command_id is not None:
        response["id"] = command_id
    return response | fields


def _dump(response: Mapping[str, Any]) -> bytes:
    # The response may contain client text with lone surrogates.
    return dump_json(response)
