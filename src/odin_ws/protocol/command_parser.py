"""Parses and validates client commands: JSON text in, a command or a CommandError out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Final, TypeVar

from odin_ws.catalogue import Catalogue
from odin_ws.protocol.commands import (
    Auth,
    Command,
    CommandId,
    Delivery,
    Heartbeat,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
)
from odin_ws.protocol.errors import CommandError, ErrorCode, shown
from odin_ws.protocol.filters import Filter, InvalidFilter, read_filter
from odin_ws.protocol.json_text import InvalidJson, is_encodable, load_json
from odin_ws.protocol.position_parser import (
    read_ids,
    read_last_offsets,
    read_last_positions,
    read_positions,
)
from odin_ws.protocol.selection import NAMES, Scope, read_selection
from odin_ws.protocol.wire_format import Frames
from odin_ws.steps import Steps, finish

__all__ = ["DEFAULT_PATTERNS", "decode_command", "decode_steps"]

# Ids are echoed in responses: long enough for a UUID with a prefix, too short for a payload.
_MAX_ID_LENGTH: Final = 128

# The integers that any client's JSON can have.
_IDS: Final = range(-(1 << 63), 1 << 64)

# Limit of sequence numbers and epoch milliseconds; beyond it browsers lose digits.
_MAX_NUMBER: Final = (1 << 53) - 1

# Messages per second and channel. For less, snapshots are better; for more, WS_MAX_BROADCAST_RATE,
# whose default is 20.
_RATES: Final = (0.1, 20)

# The default of WS_MAX_SUBSCRIPTIONS.
DEFAULT_PATTERNS: Final = 1024

_Choice = TypeVar("_Choice", bound=StrEnum)


def decode_command(
    text: str, catalogue: Catalogue, max_patterns: int = DEFAULT_PATTERNS
) -> Command:
    """Parse one command. Raises CommandError with the field and what is allowed.

    `max_patterns`: names that stand for more are rejected.
    """
    return finish(decode_steps(text, catalogue, max_patterns))


def decode_steps(
    text: str, catalogue: Catalogue, max_patterns: int = DEFAULT_PATTERNS
) -> Steps[Command]:
    """Parse one command in steps; see `decode_command`. Raises CommandError."""
    try:
        message = load_json(text)
    except InvalidJson as error:
        raise CommandError(ErrorCode.INVALID_JSON, f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "a command must be a JSON object")
    command_id = _read_id(message)
    try:
        return (yield from _read_command(message, command_id, Scope(catalogue, max_patterns)))
    except CommandError as error:
        error.id = command_id
        raise


def _read_command(message: dict[str, Any], command_id: CommandId, scope: Scope) -> Steps[Command]:
    _check_fields(message, {"type", "id", "data"}, "a command")
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in _READERS:
        allowed = ", ".join(_READERS)
        raise CommandError(
            ErrorCode.UNKNOWN_TYPE, f"type: must be one of {allowed}, not {shown(repr(kind))}"
        )
    try:
        return (yield from _read_data(kind, command_id, message.get("data", {}), scope))
    except CommandError as error:
        error.command = kind
        raise


def _read_data(kind: str, command_id: CommandId, data: Any, scope: Scope) -> Steps[Command]:
    if not isinstance(data, dict):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data: must be an object")
    fields, read = _READERS[kind]
    if fields is not None:
        _check_fields(data, fields, f"data of {kind}")
    return (yield from read(command_id, data, scope))


def _read_id(message: dict[str, Any]) -> CommandId:
    command_id = message.get("id")
    if command_id is None:
        return None
    if isinstance(command_id, int) and not isinstance(command_id, bool) and command_id in _IDS:
        return command_id
    if isinstance(command_id, str) and len(command_id) <= _MAX_ID_LENGTH:
        return command_id
    raise CommandError(
        ErrorCode.INVALID_MESSAGE,
        f"id: must be an integer or a string of at most {_MAX_ID_LENGTH} characters",
    )


def _read_subscribe(command_id: CommandId, data: dict[str, Any], scope: Scope) -> Steps[Subscribe]:
    snapshot, since = _flag(data, "snapshot"), data.get("since_ms")
    if since is not None:
        since = _number(data, "since_ms", 0)
        if snapshot:
            raise CommandError(
                ErrorCode.INVALID_MESSAGE, "data.snapshot: must not be combined with since_ms"
            )
    return Subscribe(
        command_id,
        (yield from read_selection(data, scope)),
        _flag(data, "positions"),
        snapshot,
        since,
        _delivery(data),
        _frames(data),
        _max_rate(data) if "max_rate" in data else None,
        _where(data) if "where" in data else None,
    )


def _read_resume(command_id: CommandId, data: dict[str, Any], scope: Scope) -> Steps[Resume]:
    positions = yield from read_positions(data.get("positions"), scope.catalogue)
    return Resume(
        command_id,
        (yield from read_selection(data, scope)),
        positions,
        _delivery(data),
        frozenset(data["positions"]),
        read_ids(data.get("ids", {}), scope.catalogue),
        _flag(data, "snapshot"),
        _frames(data),
        _max_rate(data) if "max_rate" in data else None,
        _where(data) if "where" in data else None,
    )


def _read_reconnect(command_id: CommandId, data: dict[str, Any], scope: Scope) -> Steps[Reconnect]:
    client_id = data.get("client_id", "")
    if not isinstance(client_id, str) or len(client_id) > _MAX_ID_LENGTH:
        raise CommandError(
            ErrorCode.INVALID_MESSAGE,
            f"data.client_id: must be a string of at most {_MAX_ID_LENGTH} characters",
        )
    if "last_offset" in data and "last_pos" not in data:
        return Reconnect(command_id, {}, read_last_offsets(data["last_offset"], scope.catalogue))
    positions = yield from read_last_positions(data.get("last_pos"), scope.catalogue)
    return Reconnect(command_id, positions)


def _read_resend(command_id: CommandId, data: dict[str, Any], _scope: Scope) -> Steps[Resend]:
    yield from ()
    if "since" in data:
        if data.keys() != {"since"}:
            raise CommandError(
                ErrorCode.INVALID_MESSAGE, "data.since: must not be combined with from and to"
            )
        return Resend(command_id, _number(data, "since", 0) + 1, None)
    first, last = _number(data, "from", 1), _number(data, "to", 1)
    if last < first:
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data.to: must not be less than data.from")
    return Resend(command_id, first, last)


def _read_unsubscribe(
    command_id: CommandId, data: dict[str, Any], scope: Scope
) -> Steps[Unsubscribe]:
    return Unsubscribe(command_id, (yield from read_selection(data, scope)))


def _read_auth(command_id: CommandId, data: dict[str, Any], _scope: Scope) -> Steps[Auth]:
    yield from ()
    token = data.get("token")
    if not isinstance(token, str) or not is_encodable(token):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data.token: must be a string")
    return Auth(command_id, token)


def _read_heartbeat(
    command_id: CommandId, _data: dict[str, Any], _scope: Scope
) -> Steps[Heartbeat]:
    yield from ()
    return Heartbeat(command_id)


def _flag(data: dict[str, Any], field: str) -> bool:
    value = data.get(field, False)
    if not isinstance(value, bool):
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: must be true or false")
    return value


def _number(data: dict[str, Any], field: str, low: int) -> int:
    value = data.get(field)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= _MAX_NUMBER:
        return value
    raise CommandError(
        ErrorCode.INVALID_MESSAGE,
        f"data.{field}: must be an integer from {low} to {_MAX_NUMBER}",
    )


def _delivery(data: dict[str, Any]) -> Delivery | None:
    return _choice(data, "delivery", Delivery)


def _frames(data: dict[str, Any]) -> Frames | None:
    return _choice(data, "frames", Frames)


def _max_rate(data: dict[str, Any]) -> float | None:
    """Read a rate, rounded down to tenths: subscriptions at the same rate share their work."""
    value = data.get("max_rate")
    if value is None:
        return None
    low, high = _RATES
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        # 0.7 * 10 is 7.000000000000001, and 4.35 * 100 is 434.99999999999994.
        return math.floor(value * 10 + 1e-9) / 10
    raise CommandError(
        ErrorCode.INVALID_MESSAGE,
        f"data.max_rate: must be a number from {low} to {high}, per second",
    )


def _where(data: dict[str, Any]) -> Filter | None:
    tree = data.get("where")
    if tree is None:
        return None
    try:
        return read_filter(tree, "data.where")
    except InvalidFilter as error:
        raise CommandError(ErrorCode.INVALID_MESSAGE, str(error)) from None


def _choice(data: dict[str, Any], field: str, choices: type[_Choice]) -> _Choice | None:
    value = data.get(field)
    if value is None:
        return None
    if value in tuple(choices):
        return choices(value)
    raise CommandError(
        ErrorCode.INVALID_MESSAGE, f"data.{field}: must be one of {', '.join(choices)}"
    )


def _check_fields(table: dict[str, Any], allowed: Collection[str], location: str) -> None:
    if unknown := table.keys() - set(allowed):
        raise CommandError(
            ErrorCode.INVALID_MESSAGE,
            f"{location}: unknown field {shown(', '.join(sorted(unknown)))}; "
            f"allowed: {', '.join(sorted(allowed))}",
        )


_Reader = Callable[[CommandId, dict[str, Any], Scope], Steps[Command]]

# By command the fields of its data; None if they do not matter.
_READERS: Final[dict[str, tuple[Collection[str] | None, _Reader]]] = {
    "subscribe": (
        (*NAMES, "positions", "snapshot", "since_ms", "delivery", "frames", "max_rate", "where"),
        _read_subscribe,
    ),
    "resume": (
        (*NAMES, "positions", "ids", "snapshot", "delivery", "frames", "max_rate", "where"),
        _read_resume,
    ),
    "reconnect": (("client_id", "last_pos", "last_offset"), _read_reconnect),
    "replay": (("from", "to", "since"), _read_resend),
    "unsubscribe": (NAMES, _read_unsubscribe),
    "auth": (("token",), _read_auth),
    "heartbeat": (None, _read_heartbeat),
}
