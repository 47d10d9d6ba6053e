"""Patterns: parses and matches `BTC.trade`, `*.trade`, `BTC.*` and `*.*`.

Commands, claims, acks and indexes have patterns as text. What a text matches is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from odin_ws.steps import STEP_ITEMS, Steps

__all__ = [
    "ANY",
    "Channels",
    "Pattern",
    "channel_name",
    "find_channels",
    "has_token",
    "matching_patterns",
]

ANY = "*"


class Pattern(NamedTuple):
    """A token and a category; `*` in place of either stands for all of them."""

    token: str
    category: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Split a text at its *last* dot: tokens may contain dots. Raises ValueError without one.

        Neither part is checked: `Catalogue.expand_channel` does that for what clients write.
        """
        token, dot, category = text.rpartition(".")
        if not dot:
            raise ValueError(f"{text[:100]!r}: a pattern is {{token}}.{{category}}")
        # Not by the constructor: a thousand patterns are parsed for one command, and this is half.
        return tuple.__new__(cls, (token, category))

    @property
    def text(self) -> str:
        """As clients write it."""
        return channel_name(self.token, self.category)

    def matches(self, token: str, category: str) -> bool:
        """Whether the channel of a token and a category is one of the pattern's."""
        return self.token in (token, ANY) and self.category in (category, ANY)

    def covers(self, other: Pattern) -> bool:
        """Whether every channel that `other` matches is one of the pattern's."""
        return self.matches(other.token, other.category)

    def overlaps(self, other: Pattern) -> bool:
        """Whether some channel is matched by both."""
        return all(
            one == another or ANY in (one, another)
            for one, another in zip(self, other, strict=True)
        )

    def categories(self, existing: Collection[str]) -> Collection[str]:
        """The categories that it reads, `existing` being all there are."""
        return existing if self.category == ANY else (self.category,)


def channel_name(token: str, category: str) -> str:
    """The channel of a token's records in one category: `BTC.trade`."""
    return f"{token}.{category}"


def matching_patterns(token: str, category: str) -> tuple[str, str, str, str]:
    """The texts of the four patterns that match a channel; the first is the channel itself."""
    return (
        channel_name(token, category),
        channel_name(ANY, category),
        channel_name(token, ANY),
        channel_name(ANY, ANY),
    )


def has_token(tokens: AbstractSet[str], token: str) -> bool:
    """Whether `tokens`, in which `*` stands for all, include one; `*` only if they are all."""
    return token in tokens or ANY in tokens


class Channels(NamedTuple):
    """The channels that some patterns match, without overlaps: each in one of the two."""

    whole: Mapping[str, str]
    """Categories all of whose channels are matched, each with a pattern that does so."""
    named: Mapping[str, tuple[str, str]]
    """Single channels of other categories, each with its category and a pattern that matches it."""


def find_channels(texts: Iterable[str], categories: Collection[str]) -> Steps[Channels]:
    """What patterns match, `categories` being all there are."""
    whole: dict[str, str] = {}
    named: dict[str, tuple[str, str]] = {}
    for count, text in enumerate(texts, 1):
        pattern = Pattern.parse(text)
        if pattern.token == ANY:
            whole.update(dict.fromkeys(pattern.categories(categories), text))
        elif pattern.category == ANY:
            for category in categories:
                named[channel_name(pattern.token, category)] = category, text
        else:
            named[text] = pattern.category, text
        if not count % STEP_ITEMS:
            yield
    if not whole:
        return Channels(whole, named)
    single: dict[str, tuple[str, str]] = {}
    for count, (channel, (category, text)) in enumerate(named.items(), 1):
        if category not in whole:
            single[channel] = category, text
        if not count % STEP_ITEMS:
            yield
    return Channels(whole, single)
