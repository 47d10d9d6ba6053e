"""What a client may say, read and judged: text in, a command or a CommandError out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import attrs
import orjson

from odin_ws.catalogue import Catalogue, InvalidName, check_token

__all__ = [
    "Command",
    "CommandError",
    "ErrorCode",
    "Heartbeat",
    "Rejection",
    "Selection",
    "Subscribe",
    "Unsubscribe",
    "decode_command",
]

# An id is echoed in the answer: long enough for a UUID with a prefix, too short to be a payload.
_MAX_ID_LENGTH: Final = 128


class ErrorCode(StrEnum):
    """The codes of `error` answers and of `rejected` names."""

    INVALID_JSON = "INVALID_JSON"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNKNOWN_BUNDLE = "UNKNOWN_BUNDLE"
    NOT_SUBSCRIBED = "NOT_SUBSCRIBED"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    NOT_AVAILABLE = "NOT_AVAILABLE"


@attrs.define
class CommandError(Exception):
    """A command that is answered with `error`; `id` is the command's, where it could be read."""

    code: ErrorCode
    message: str
    id: str | int | None = None
    retry: bool = False

    def __str__(self) -> str:
        return self.message


@attrs.frozen
class Rejection:
    """One name that did not take effect, and why."""

    name: str
    code: ErrorCode
    message: str


@attrs.frozen
class Selection:
    """Names as the client wrote them, each with the patterns it stands for, and the bad ones."""

    wanted: Mapping[str, tuple[str, ...]]
    rejected: tuple[Rejection, ...]


@attrs.frozen
class Subscribe:
    """Start sending what `selection` names; `positions`: say from which offsets on it is live."""

    id: str | int | None
    selection: Selection
    positions: bool


@attrs.frozen
class Unsubscribe:
    """Stop sending what `selection` names."""

    id: str | int | None
    selection: Selection


@attrs.frozen
class Heartbeat:
    """Asks for a `pong`."""

    id: str | int | None


Command = Subscribe | Unsubscribe | Heartbeat


def decode_command(text: str, catalogue: Catalogue) -> Command:
    """Read one command. Raises CommandError, which names the field and what is allowed."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CommandError(ErrorCode.INVALID_JSON, f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "a command is a JSON object")
    command_id = _read_id(message)
    try:
        return _read_command(message, command_id, catalogue)
    except CommandError as error:
        error.id = command_id
        raise


def _read_command(
    message: dict[str, Any], command_id: str | int | None, catalogue: Catalogue
) -> Command:
    _check_fields(message, {"type", "id", "data"}, "a command")
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in _READERS:
        if isinstance(kind, str) and kind in _NOT_AVAILABLE:
            raise CommandError(ErrorCode.NOT_AVAILABLE, f"{kind} is not available on this server")
        allowed = ", ".join(_READERS)
        raise CommandError(ErrorCode.UNKNOWN_TYPE, f"type: {kind!r} is none of {allowed}")
    data = message.get("data", {})
    if not isinstance(data, dict):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data: an object is needed")
    return _READERS[kind](command_id, data, catalogue)


def _read_id(message: dict[str, Any]) -> str | int | None:
    command_id = message.get("id")
    if command_id is None or (isinstance(command_id, int) and not isinstance(command_id, bool)):
        return command_id
    if isinstance(command_id, str) and len(command_id) <= _MAX_ID_LENGTH:
        return command_id
    raise CommandError(
        ErrorCode.INVALID_MESSAGE,
        f"id: an integer or a string of at most {_MAX_ID_LENGTH} characters",
    )


def _read_subscribe(
    command_id: str | int | None, data: dict[str, Any], catalogue: Catalogue
) -> Subscribe:
    _check_fields(data, {*_NAMES, "positions", *_SUBSCRIBE_LATER}, "data of subscribe")
    for field, usual in _SUBSCRIBE_LATER.items():
        if data.get(field, usual) != usual:
            raise CommandError(
                ErrorCode.NOT_AVAILABLE, f"data.{field}: not available on this server"
            )
    positions = data.get("positions", False)
    if not isinstance(positions, bool):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data.positions: true or false")
    return Subscribe(command_id, _read_selection(data, catalogue), positions)


def _read_unsubscribe(
    command_id: str | int | None, data: dict[str, Any], catalogue: Catalogue
) -> Unsubscribe:
    _check_fields(data, {*_NAMES}, "data of unsubscribe")
    return Unsubscribe(command_id, _read_selection(data, catalogue))


def _read_heartbeat(
    command_id: str | int | None, _data: dict[str, Any], _catalogue: Catalogue
) -> Heartbeat:
    return Heartbeat(command_id)


def _read_selection(data: dict[str, Any], catalogue: Catalogue) -> Selection:
    names = {field: _read_names(data, field) for field in _NAMES}
    if not any(field in data for field in ("channels", "topics", "bundles")):
        raise CommandError(
            ErrorCode.INVALID_MESSAGE, "data: at least one of channels, topics, bundles is needed"
        )
    if names["tokens"] and not (names["topics"] or names["bundles"]):
        raise CommandError(
            ErrorCode.INVALID_MESSAGE, "data.tokens: narrows topics and bundles; none is given"
        )
    wanted: dict[str, tuple[str, ...]] = {}
    rejected: list[Rejection] = []

    def resolve(name: str, expand: Callable[[str], tuple[str, ...]]) -> None:
        try:
            patterns = expand(name)
        except InvalidName as error:
            rejected.append(Rejection(error.name, ErrorCode(error.code), error.message))
            return
        if patterns:
            wanted[name] = wanted.get(name, ()) + patterns
        else:
            message = "data.tokens leaves nothing of it: no token is given, or none is valid"
            rejected.append(Rejection(name, ErrorCode.INVALID_CHANNEL, message))

    narrowed = _check_tokens(names["tokens"], rejected) if "tokens" in data else ("*",)
    for name in names["channels"]:
        resolve(name, catalogue.expand_channel)
    for name in names["topics"]:
        resolve(name, lambda name: catalogue.expand_topic(name, narrowed))
    for name in names["bundles"]:
        resolve(name, lambda name: catalogue.expand_bundle(name, narrowed))
    return Selection(wanted, tuple(rejected))


def _check_tokens(names: Sequence[str], rejected: list[Rejection]) -> tuple[str, ...]:
    """The tokens among the names; the others are added to `rejected`."""
    tokens: list[str] = []
    for name in names:
        try:
            tokens.append(check_token(name, name))
        except InvalidName as error:
            rejected.append(Rejection(name, ErrorCode(error.code), error.message))
    return tuple(tokens)


def _read_names(data: dict[str, Any], field: str) -> list[str]:
    """A list of texts, each once: repeating a topic must not multiply it with every token."""
    names = data.get(field, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: a list of strings is needed")
    if len(names) > _MAX_NAMES:
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: at most {_MAX_NAMES} names")
    return list(dict.fromkeys(names))


def _check_fields(table: dict[str, Any], allowed: set[str], place: str) -> None:
    if unknown := table.keys() - allowed:
        raise CommandError(
            ErrorCode.INVALID_MESSAGE,
            f"{place}: unknown field {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(allowed))}",
        )


_NAMES: Final = ("channels", "topics", "bundles", "tokens")

# A command is answered name by name, each with a sentence: this bounds what one may ask for.
_MAX_NAMES: Final = 1024

# Fields of subscribe that the resume issue brings; their usual values are accepted already.
_SUBSCRIBE_LATER: Final = {"snapshot": False, "since_ms": None, "delivery": "all"}

_NOT_AVAILABLE: Final = frozenset({"resume", "reconnect", "replay", "auth"})

_READERS: Final[dict[str, Callable[[str | int | None, dict[str, Any], Catalogue], Command]]] = {
    "subscribe": _read_subscribe,
    "unsubscribe": _read_unsubscribe,
    "heartbeat": _read_heartbeat,
}
