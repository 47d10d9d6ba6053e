"""Loads and checks the catalogue file (TOML, WS_CATALOGUE)."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

from odin_ws.catalogue.demo_events import read_demo_events
from odin_ws.catalogue.errors import CatalogueError, line_of
from odin_ws.catalogue.fields import (
    check_keys,
    check_unique,
    read_format,
    read_table,
    read_text,
    read_texts,
    read_word,
)
from odin_ws.catalogue.model import Catalogue, KeyFormat, Topic, ValueFormat

__all__ = ["default_catalogue", "load_catalogue"]

# The topic names that a Kafka broker accepts.
_TOPIC_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


@cache
def default_catalogue() -> Catalogue:
    """Return the catalogue of the Odin platform."""
    return load_catalogue(files("odin_ws.catalogue").joinpath("odin.toml").read_text("utf-8"))


def load_catalogue(text: str) -> Catalogue:
    """Read a catalogue from TOML like the package's `odin.toml`. Raises CatalogueError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise CatalogueError("", f"not TOML: {error}", int(line[1]) if line else None) from error
    try:
        return _catalogue(document)
    except CatalogueError as error:
        error.line = line_of(text, error.location)
        raise


def _catalogue(document: dict[str, Any]) -> Catalogue:
    check_keys(document, {"topics", "bundles", "demo"}, "")
    rows = document.get("topics", [])
    if not isinstance(rows, list) or not rows:
        raise CatalogueError("topics", "must have at least one [[topics]]")
    topics = [_topic(row, f"topics[{index}]") for index, row in enumerate(rows)]
    numbered = [(f"topics[{index}]", topic) for index, topic in enumerate(topics)]
    check_unique(((f"{location}.name", topic.name) for location, topic in numbered), "topic name")
    check_unique(
        ((f"{location}.category", topic.category) for location, topic in numbered), "category"
    )
    check_unique(
        ((f"{location}.events", event) for location, topic in numbered for event in topic.events),
        "event type",
    )
    return Catalogue(
        topics={topic.name: topic for topic in topics},
        bundles=_bundles(document.get("bundles", {}), {topic.category for topic in topics}),
        demo=read_demo_events(
            document.get("demo", {}), {event for topic in topics for event in topic.events}
        ),
    )


def _topic(row: Any, location: str) -> Topic:
    table = read_table(row, location)
    check_keys(table, {"name", "category", "events", "key", "value"}, location)
    name = read_text(table.get("name"), f"{location}.name")
    if not _TOPIC_NAME.fullmatch(name):
        raise CatalogueError(
            f"{location}.name", f"{name!r}: Kafka allows 1 to 249 of letters, digits, dot, _ and -"
        )
    return Topic(
        name=name,
        category=read_word(table.get("category"), f"{location}.category"),
        events=read_texts(table.get("events", []), f"{location}.events"),
        key=read_format(table.get("key", "text"), KeyFormat, f"{location}.key ({name})"),
        value=read_format(table.get("value", "json"), ValueFormat, f"{location}.value ({name})"),
    )


def _bundles(value: Any, categories: set[str]) -> dict[str, tuple[str, ...]]:
    bundles = {}
    for name, members in read_table(value, "bundles").items():
        location = f"bundles.{name}"
        if read_word(name, location) in categories:
            raise CatalogueError(location, "is also the name of a category")
        bundles[name] = read_texts(members, location)
        if not members:
            raise CatalogueError(location, "must have at least one category")
        if unknown := set(bundles[name]) - categories:
            problem = (
                f"unknown category {', '.join(sorted(unknown))}; "
                f"allowed: {', '.join(sorted(categories))}"
            )
            raise CatalogueError(location, problem)
    return bundles
