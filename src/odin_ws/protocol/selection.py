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

# Maps a name and tokens to patterns. Raises InvalidName.
_Expand = Callable[[str, Sequence[str]], tuple[str, ...]]

# The fields with names.
NAMES: Final = ("channels", "topics", "bundles", "tokens")

_NO_NAMES: Final[Sequence[str]] = ()

# A response has a text per name: this limits the names of a command.
_MAX_NAMES: Final = 1024


@attrs.frozen
class Scope:
    """The bounds of expansion: at most `maximum` different patterns of this catalogue."""

    catalogue: Catalogue
    maximum: int


@attrs.frozen
class RejectedName:
    """One rejected name, and the reason."""

    name: str
    code: ErrorCode
    message: str


@attrs.frozen
class Selection:
    """Names as the client wrote them, each with its patterns, and the rejected ones."""

    wanted: Mapping[str, tuple[str, ...]]
    rejected: tuple[RejectedName, ...]

    @property
    def size(self) -> int:
        """Return the number of patterns and rejections."""
        return sum(map(len, self.wanted.values())) + len(self.rejected)

    def without(self, patterns: Collection[str]) -> Selection:
        """Return a copy without some patterns, and without names that have no others."""
        remaining = {
            name: tuple(pattern for pattern in name_patterns if pattern not in patterns)
            for name, name_patterns in self.wanted.items()
        }
        return Selection(
            {name: name_patterns for name, name_patterns in remaining.items() if name_patterns},
            self.rejected,
        )


def read_selection(data: dict[str, Any], scope: Scope) -> Steps[Selection]:
    """Read the names in a command's data. Raises CommandError; invalid names are only rejected."""
    channels = _read_names(data, "channels")
    topics, bundles = _read_names(data, "topics"), _read_names(data, "bundles")
    narrowing = _read_names(data, "tokens")
    if not ("channels" in data or "topics" in data or "bundles" in data):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data: must have channels, topics or bundles")
    if narrowing and not (topics or bundles):
        raise CommandError(ErrorCode.INVALID_MESSAGE, "data.tokens: requires topics or bundles")
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
    """Expands names, up to `maximum` different patterns."""

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
        # A bundle with a thousand tokens has about 12,000 characters and 8,000 patterns.
        fits = len(patterns) * len(tokens) <= self._maximum
        if fits and len(tokens) != 1:
            patterns = expand(name, tokens)
        if not tokens:
            message = "data.tokens has no valid token"
            self._reject(name, ErrorCode.INVALID_CHANNEL, message)
        elif not fits or self._too_many(patterns):
            message = f"at most {self._maximum} subscriptions per connection"
            self._reject(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message)
        else:
            self._patterns.update(patterns)
            self.wanted[name] = self.wanted.get(name, ()) + patterns

    def _too_many(self, patterns: Sequence[str]) -> bool:
        new = {pattern for pattern in patterns if pattern not in self._patterns}
        return len(self._patterns) + len(new) > self._maximum

    def _reject(self, name: str, code: ErrorCode, message: str) -> None:
        self.rejected.append(RejectedName(name, code, message))


def _check_tokens(names: Sequence[str], rejected: list[RejectedName]) -> Steps[tuple[str, ...]]:
    """Return the valid tokens; adds the others to `rejected`."""
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
    """Read a list of texts without duplicates: repeated topics must not multiply with tokens."""
    if field not in data:
        return _NO_NAMES
    names = data[field]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CommandError(ErrorCode.INVALID_MESSAGE, f"data.{field}: must be a list of strings")
    if len(names) > _MAX_NAMES:
        raise CommandError(
            ErrorCode.INVALID_MESSAGE, f"data.{field}: must have at most {_MAX_NAMES} names"
        )
    return list(dict.fromkeys(names))
