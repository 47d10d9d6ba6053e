"""The catalogue: topics, and the patterns that channels, topics and bundles expand to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import attrs

from odin_ws.catalogue.channel_names import (
    InvalidName,
    NameCode,
    check_token,
)
from odin_ws.catalogue.demo_events import DemoEvents
from odin_ws.pattern import ANY, Pattern, channel_name

__all__ = ["Catalogue", "KeyFormat", "Topic", "ValueFormat"]


class KeyFormat(StrEnum):
    """The format of the token in the record key."""

    TEXT = "text"
    """The token, in UTF-8."""

    JSON = "json"
    """A JSON string, as Kafka Connect's JsonConverter writes it."""

    CONFLUENT = "confluent"
    """The token, in UTF-8, after Confluent's prefix: a zero byte and a schema id of 4 bytes."""


class ValueFormat(StrEnum):
    """The format of an event in the record value."""

    JSON = "json"
    """A JSON object."""

    CONFLUENT_JSON = "confluent-json"
    """A JSON object after Confluent's prefix, as its JSON Schema serializer writes it."""


@attrs.frozen
class Topic:
    """One Kafka topic: its category, its event types, and the formats of its records."""

    name: str
    category: str
    events: tuple[str, ...]
    """The event types that publishers send to the topic."""
    key: KeyFormat = KeyFormat.TEXT
    """The format of record keys."""
    value: ValueFormat = ValueFormat.JSON
    """The format of record values."""


@attrs.frozen
class Catalogue:
    """All topics and bundles of a domain. Created by `load_catalogue`, which validates the file."""

    topics: Mapping[str, Topic]
    bundles: Mapping[str, tuple[str, ...]]
    demo: DemoEvents = attrs.field(factory=DemoEvents)
    categories: Mapping[str, Topic] = attrs.field(init=False)
    event_types: Mapping[str, Topic] = attrs.field(init=False)

    @categories.default
    def _by_category(self) -> dict[str, Topic]:
        return {topic.category: topic for topic in self.topics.values()}

    @event_types.default
    def _by_event_type(self) -> dict[str, Topic]:
        return {event: topic for topic in self.topics.values() for event in topic.events}

    def topics_of(self, patterns: Iterable[str]) -> list[str]:
        """Return the topics that patterns read from, in the catalogue's order."""
        return self.topics_in({Pattern.parse(pattern).category for pattern in patterns})

    def topics_in(self, endings: Iterable[str]) -> list[str]:
        """Return the topics of these categories, in the catalogue's order; `*` stands for all."""
        read: set[str] = set()
        for ending in endings:
            read.update(Pattern(ANY, ending).categories(self.categories))
        return [topic.name for topic in self.topics.values() if topic.category in read]

    def expand_channel(self, name: str) -> tuple[str, ...]:
        """Return the patterns of one entry of `channels`: a channel, a pattern or a bundle.

        `BTC.trade`, `*.trade`, `BTC.*`, `*.*`, `BTC.TRADING`, `*.TRADING` or `TRADING`.
        Raises InvalidName.
        """
        if name in self.bundles:
            return self.expand_bundle(name)
        if "." not in name:
            message = (
                "must be a bundle (" + ", ".join(self.bundles) + ") or a channel {token}.{category}"
            )
            raise InvalidName(name, NameCode.INVALID_CHANNEL, message)
        token, suffix = Pattern.parse(name)
        if token != ANY:
            check_token(token, name)
        if suffix == ANY or suffix in self.categories:
            return (channel_name(token, suffix),)
        if suffix in self.bundles:
            return tuple(channel_name(token, category) for category in self.bundles[suffix])
        message = (
            f"unknown category {suffix[:100]!r}: must be one of {', '.join(self.categories)}, "
            f"a bundle ({', '.join(self.bundles)}) or *"
        )
        raise InvalidName(name, NameCode.INVALID_CHANNEL, message)

    def expand_topic(self, name: str, tokens: Sequence[str] = (ANY,)) -> tuple[str, ...]:
        """Return the patterns of one entry of `topics`, restricted to `tokens`.

        Raises InvalidName.
        """
        topic = self.topics.get(name)
        if topic is None:
            message = f"unknown topic: must be one of {', '.join(self.topics)}"
            raise InvalidName(name, NameCode.UNKNOWN_TOPIC, message)
        return tuple(channel_name(token, topic.category) for token in tokens)

    def expand_bundle(self, name: str, tokens: Sequence[str] = (ANY,)) -> tuple[str, ...]:
        """Return the patterns of one entry of `bundles`, restricted to `tokens`.

        Raises InvalidName.
        """
        return tuple(
            channel_name(token, category) for category in self._bundle(name) for token in tokens
        )

    def _bundle(self, name: str) -> tuple[str, ...]:
        try:
            return self.bundles[name]
        except KeyError:
            message = f"unknown bundle: must be one of {', '.join(self.bundles)}"
            raise InvalidName(name, NameCode.UNKNOWN_BUNDLE, message) from None
