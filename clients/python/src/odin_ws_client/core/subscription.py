"""What a client subscribes to: channels, topics, bundles, delivery, rate, filter, start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs
import orjson

__all__ = ["Subscription"]


def _names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        # It would be taken for its characters.
        raise TypeError(f"names are given as a list, not as one string: {given!r}")
    return tuple(given)


@attrs.frozen
class Subscription:
    """Names as in a `subscribe` of docs/protocol.md; at least one channel, topic or bundle.

    `tokens` narrows topics and bundles. `delivery`: None is the server's usual, "all". `max_rate`:
    messages per second and channel at most, always the newest. `where`: a condition that records
    meet, as in docs/protocol.md; the server says what is wrong with one that is none. A first
    connection without positions begins with the last message of each channel (`snapshot`), or with
    what is as old as `since_ms` (epoch ms), else with what is published next.
    """

    channels: tuple[str, ...] = attrs.field(default=(), converter=_names)
    topics: tuple[str, ...] = attrs.field(default=(), converter=_names)
    bundles: tuple[str, ...] = attrs.field(default=(), converter=_names)
    tokens: tuple[str, ...] = attrs.field(default=(), converter=_names)
    delivery: Literal["all", "latest"] | None = None
    snapshot: bool = False
    since_ms: int | None = None
    max_rate: float | None = None
    where: Mapping[str, Any] | None = attrs.field(default=None, hash=False)

    def __attrs_post_init__(self) -> None:
        if not (self.channels or self.topics or self.bundles):
            raise ValueError("at least one of channels, topics and bundles is needed")
        if self.snapshot and self.since_ms is not None:
            raise ValueError("snapshot and since_ms are two ways to begin: only one can be had")
        orjson.dumps(self.where)  # a TypeError here and not in the middle of a connection

    def names(self) -> dict[str, Any]:
        """The fields that subscribe and resume have in common."""
        several = {
            "channels": self.channels,
            "topics": self.topics,
            "bundles": self.bundles,
            "tokens": self.tokens,
        }
        fields: dict[str, Any] = {field: names for field, names in several.items() if names}
        if self.delivery is not None:
            fields["delivery"] = self.delivery
        if self.max_rate is not None:
            fields["max_rate"] = self.max_rate
        if self.where is not None:
            fields["where"] = self.where
        return fields

    def beginning(self) -> dict[str, Any]:
        """The fields that say with what a subscribe begins."""
        fields: dict[str, Any] = {}
        if self.snapshot:
            fields["snapshot"] = True
        if self.since_ms is not None:
            fields["since_ms"] = self.since_ms
        return fields

    def without(self, other: Subscription) -> Subscription | None:
        """What is left without the names of `other`; None if nothing is.

        A topic or bundle is the same name only with the same tokens.
        """
        topics, bundles = self.topics, self.bundles
        if set(self.tokens) == set(other.tokens):
            topics = _left(topics, other.topics)
            bundles = _left(bundles, other.bundles)
        channels = _left(self.channels, other.channels)
        if not (channels or topics or bundles):
            return None
        return attrs.evolve(self, channels=channels, topics=topics, bundles=bundles)

    def only(self, names: Iterable[str]) -> Subscription | None:
        """What is left of it with only these names; None if nothing is."""
        some = set(names)
        channels, topics, bundles = (
            tuple(name for name in several if name in some)
            for several in (self.channels, self.topics, self.bundles)
        )
        if not (channels or topics or bundles):
            return None
        return attrs.evolve(self, channels=channels, topics=topics, bundles=bundles)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Of channels, topics and bundles."""
        return self.channels + self.topics + self.bundles


def _left(names: tuple[str, ...], ended: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in set(ended))
