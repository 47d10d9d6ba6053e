"""The names and options of a subscription: channels, topics, bundles, rate, filter, start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs
import orjson

__all__ = ["Subscription"]


def _names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        # A string is an iterable too: each character would become a name.
        raise TypeError(f"names must be a list, not one string: {given!r}")
    return tuple(given)


@attrs.frozen
class Subscription:
    """The names and options of a `subscribe` command: docs/protocol.md.

    Without `snapshot` and `since_ms` a new subscription begins with the next published record.

    Raises:
        TypeError: if names are one string, or `where` is not JSON.
        ValueError: without a channel, topic or bundle, or with both `snapshot` and `since_ms`.
    """

    channels: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Channels (`{token}.{category}`), patterns, and bundles of one token."""
    topics: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Kafka topics."""
    bundles: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Bundles, each of several categories."""
    tokens: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """The tokens to which `topics` and `bundles` are limited; empty for all."""
    delivery: Literal["all", "latest"] | None = None
    """With "latest" a slow client gets only the newest message per channel; None means "all"."""
    snapshot: bool = False
    """True if a new subscription begins with the last message of each channel."""
    since_ms: int | None = None
    """The time (epoch ms) of the first records of a new subscription."""
    max_rate: float | None = None
    """The most messages per second and channel, always the newest."""
    where: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    """The filter on record values, as in docs/protocol.md; the server checks the filter."""

    def __attrs_post_init__(self) -> None:
        if not (self.channels or self.topics or self.bundles):
            raise ValueError("a subscription must have channels, topics or bundles")
        if self.snapshot and self.since_ms is not None:
            raise ValueError("snapshot and since_ms cannot be combined")
        orjson.dumps(self.where)  # raises TypeError here instead of during a connection

    def names(self) -> dict[str, Any]:
        """Return the fields that subscribe and resume have in common."""
        given = {
            "channels": self.channels,
            "topics": self.topics,
            "bundles": self.bundles,
            "tokens": self.tokens,
        }
        fields: dict[str, Any] = {field: names for field, names in given.items() if names}
        if self.delivery is not None:
            fields["delivery"] = self.delivery
        if self.max_rate is not None:
            fields["max_rate"] = self.max_rate
        if self.where is not None:
            fields["where"] = self.where
        return fields

    def beginning(self) -> dict[str, Any]:
        """Return the fields for the start of a subscribe: `snapshot` or `since_ms`."""
        fields: dict[str, Any] = {}
        if self.snapshot:
            fields["snapshot"] = True
        if self.since_ms is not None:
            fields["since_ms"] = self.since_ms
        return fields

    def without(self, other: Subscription) -> Subscription | None:
        """Return the subscription without the names of `other`; None if no name is left.

        Topics and bundles are equal names only with equal `tokens`.
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
        """Return the subscription with only the given names; None if no name is left."""
        some = set(names)
        channels, topics, bundles = (
            tuple(name for name in names if name in some)
            for names in (self.channels, self.topics, self.bundles)
        )
        if not (channels or topics or bundles):
            return None
        return attrs.evolve(self, channels=channels, topics=topics, bundles=bundles)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of channels, topics and bundles."""
        return self.channels + self.topics + self.bundles


def _left(names: tuple[str, ...], ended: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in set(ended))
