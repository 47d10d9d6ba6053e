"""The names in a command: which patterns they stand for, and which of them are bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from odin_ws.catalogue import Catalogue, InvalidName, check_token
from odin_ws.protocol.errors import CommandError, ErrorCode

__all__ = ["NAMES", "Rejection", "Selection", "read_selection"]

# The fields that hold names.
NAMES: Final = ("channels", "topics", "bundles", "tokens")

# A command is answered name by name, each with a sentence: this bounds what one may ask for.
_MAX_NAMES: Final = 1024


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


def read_selection(data: dict[str, Any], catalogue: Catalogue) -> Selection:
    """The names in a command's data. Raises CommandError; a bad name is only rejected."""
    names = {field: _read_names(data, field) for field in NAMES}
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
