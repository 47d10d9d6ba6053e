"""Parses the names in a command into patterns and rejected names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import attrs

from odin_ws.catalogue import Catalogue, InvalidName, check_token
from odin_ws.pattern import ANY
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["NAMES", "RejectedName", "Scope", "Selection", "read_selection"]

# A name and tokens to its patterns. Raises InvalidName.
_Expand = Callable[[str, Sequence[str]], tuple[str, ...]]

# The fields that hold names.
NAMES: Final = ("channels", "topics", "bundles", "tokens")

_NO_NAMES: Final[Sequence[str]] = ()

# A command is answered name by name, each with a sentence: this bounds what one may ask for.
_MAX_NAMES: Final = 1024


@attrs.frozen
class Scope:
    """What names may stand for: `maximum` different patterns of this catalogue in one command."""

    catalogue: Catalogue
    maximum: int


@attrs.frozen
class RejectedName:
    """One name that did not take effect, and why."""

    name: str
    code: ErrorCode
    message: str


@attrs.frozen
class Selection:
    """Names as the client wrote them, each with the patterns it stands for, and the bad ones."""

    wanted: Mapping[str, tuple[str, ...]]
    rejected: tuple[RejectedName, ...]

    @property
    def size(self) -> int:
        """How many patterns and rejections it holds."""
        return sum(map(len, self.wanted.values())) + len(self.rejected)

    def without(self, patterns: Collection[str]) -> Selection:
        """The same without some patterns, and without the names of which nothing is left then."""
        left = {
            name: tuple(one for one in several if one not in patterns)
            for name, several in self.wanted.items()
        }
        return Selection(
            {name: several for name, several in left.items() if several}, self.rejected
        )


def read_selection(data: dict[str, Any], scope: Scope) -> Steps[Selection]:
    """The names in a command's data. Raises CommandError; a bad name is only rejected."""
    channels = _read_names(data, "channels")
    topics, bundles = _read_names(data, "topics"), _read_names(data, "bundles")
    narrowing = _read_names(data, "tokens")
    if not ("channels" in data or "topics" in data or "bundles" in data):
        raise CommandError(
            ErrorCode.INVALID_MESSAGE, "data: at least one of channels, topics, bundles is needed"
        )
    if narrowing and not (topics or bundles):
        raise CommandError(
            ErrorCode.INVALID_MESSAGE, "data.tokens: narrows topics and bundles; none is given"
        )
    reader = _Reader(scope.maximum)
    catalogue = scope.catalogue
    tokens: Sequence[str] = (ANY,)
    if "tokens" in data:
        tokens = yield from _check_tokens(narrowing, reader.rejected)
    if channels:
        expand_channel: _Expand = lambda name, _tokens: catalogue.expand_channel(name)  # noqa: E731
        yield from reader.read_all(channels, expand_channel, (ANY,))
    if topics:
        yield from reader.read_all(topics, catalogue.expand_topic, tokens)
    if bundles:
        yield from reader.read_all(bundles, catalogue.expand_bundle, tokens)
    return Selection(reader.wanted, tuple(reader.rejected))


class _Reader:
    """Expands names, as long as they stand for at most `maximum` different patterns."""

    def __init__(self, maximum: int) -> None:
        self.wanted: dict[str, tuple[str, ...]] = {}
        self.rejected: list[RejectedName] = []
        self._maximum = maximum
        self._patterns: set[str] = set()

    def read_all(self, names: Sequence[str], expand: _Expand, tokens: Sequence[str]) -> Steps[None]:
        """Expand names for these tokens, or reject them."""
        for count, name in enumerate(names, 1):
            self.read(name, expand, tokens)
            if not count % STEP_ITEMS or len(tokens) >= STEP_ITEMS:
                yield

    def read(self, name: str, expand: _Expand, tokens: Sequence[str]) -> None:
        """Expand a name for these tokens, or reject it."""
        try:
            patterns = expand(name, tokens[:1])
        except InvalidName as error:
            self._reject(error.name, ErrorCode(error.code), error.message)
            return
        # A bundle and a thousand tokens are some 12,000 characters, and 8,000 patterns.
        fits = len(patterns) * len(tokens) <= self._maximum
        if fits and len(tokens) != 1:
            patterns = expand(name, tokens)
        if not tokens:
            message = "data.tokens leaves nothing of it: no token is given, or none is valid"
            self._reject(name, ErrorCode.INVALID_CHANNEL, message)
        elif not fits or self._too_many(patterns):
            message = f"at most {self._maximum} subscriptions per connection"
            self._reject(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message)
        else:
            self._patterns.update(patterns)
            self.wanted[name] = self.wanted.get(name, ()) + patterns

    def _too_many(self, patterns: Sequence[str]) -> bool:
        new = {one for one in patterns if one not in self._patterns}
        return len(self._patterns) + len(new) > self._maximum

    def _reject(self, name: str, code: ErrorCode, message: str) -> None:
        self.rejected.append(RejectedName(name, code, message))


def _check_tokens(names: Sequence[str], rejected: list[RejectedName]) -> Steps[tuple[str, ...]]:
    """The tokens among the names; the others are added to `rejected`."""
    tokens: list[str] = []
    for count, name in enumerate(names, 1):
        if not count % STEP_ITEMS:
            yield
        try:
            tokens.append(check_token(name, name))
        except InvalidName as error:
            rejected.append(RejectedName(name, ErrorCode(error.code), error.message))
    return tuple(tokens)


def _read_names(data: dict[str, Any], field: str) -> Sequence[str]:
    """A list of texts, each once: repeating a topic must not multiply it with every token."""
    if field not in data:
        return _NO_NAMES
    names = data[field]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: a list of strings is needed")
    if len(names) > _MAX_NAMES:
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: at most {_MAX_NAMES} names")
    return list(dict.fromkeys(names))
