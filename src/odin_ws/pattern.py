"""Patterns: parses and matches `BTC.trade`, `*.trade`, `BTC.*` and `*.*`.

Commands, claims, acks and indexes have patterns as text; this module alone interprets them.
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
    """A token and a category; `*` stands for all tokens or all categories."""

    token: str
    category: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Split a text at its *last* dot: tokens may contain dots. Raises ValueError without one.

        Does not validate the parts: `Catalogue.expand_channel` does that for clients' names.
        """
        token, dot, category = text.rpartition(".")
        if not dot:
            raise ValueError(f"{text[:100]!r}: a pattern is {{token}}.{{category}}")
        # Not by the constructor: a command may have a thousand patterns, and this halves the time.
        return tuple.__new__(cls, (token, category))

    @property
    def text(self) -> str:
        """The text as clients write it."""
        return channel_name(self.token, self.category)

    def matches(self, token: str, category: str) -> bool:
        """Return whether the pattern matches the channel of a token and a category."""
        return self.token in (token, ANY) and self.category in (category, ANY)

    def covers(self, other: Pattern) -> bool:
        """Return whether the pattern matches every channel that `other` matches."""
        return self.matches(other.token, other.category)

    def overlaps(self, other: Pattern) -> bool:
        """Return whether some channel matches both."""
        return all(
            own == their or ANY in (own, their) for own, their in zip(self, other, strict=True)
        )

    def categories(self, existing: Collection[str]) -> Collection[str]:
        """Return the categories that it matches, of all `existing` ones."""
        return existing if self.category == ANY else (self.category,)


def channel_name(token: str, category: str) -> str:
    """Return the channel of a token's records in a category: `BTC.trade`."""
    return f"{token}.{category}"


def matching_patterns(token: str, category: str) -> tuple[str, str, str, str]:
    """Return the texts of the four patterns that match a channel; first the channel itself."""
    return (
        channel_name(token, category),
        channel_name(ANY, category),
        channel_name(token, ANY),
        channel_name(ANY, ANY),
    )


def has_token(tokens: AbstractSet[str], token: str) -> bool:
    """Return whether `tokens`, in which `*` stands for all, contain one; `*` only if all."""
    return token in tokens or ANY in tokens


class Channels(NamedTuple):
    """The channels that some patterns match, each in one of the two mappings."""

    whole: Mapping[str, str]
    """Categories whose channels all match, each with a pattern that does."""
    named: Mapping[str, tuple[str, str]]
    """Single channels of other categories, each with its category and a matching pattern."""


def find_channels(texts: Iterable[str], categories: Collection[str]) -> Steps[Channels]:
    """Find the channels that patterns match; `categories`: all there are."""
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
