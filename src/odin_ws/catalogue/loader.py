"""Loads and checks the catalogue file (TOML, WS_CATALOGUE)."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from odin_ws.catalogue.model import Catalogue, KeyFormat, Topic, ValueFormat
from odin_ws.pattern import ANY

__all__ = ["CatalogueError", "default_catalogue", "load_catalogue"]

_Format = TypeVar("_Format", bound=StrEnum)


class CatalogueError(ValueError):
    """A catalogue file that cannot be served; the message names the place in it."""


@cache
def default_catalogue() -> Catalogue:
    """The topics of the Odin platform."""
    return load_catalogue(files("odin_ws.catalogue").joinpath("odin.toml").read_text("utf-8"))


def load_catalogue(text: str) -> Catalogue:
    """Read a catalogue from TOML like the package's `odin.toml`. Raises CatalogueError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"not TOML: {error}") from error
    _only(document, {"subject", "topics", "bundles"}, "the catalogue")
    rows = document.get("topics", [])
    if not isinstance(rows, list) or not rows:
        raise CatalogueError("topics: at least one [[topics]] is needed")
    topics = [_topic(row, f"topics[{index}]") for index, row in enumerate(rows)]
    _unique((topic.name for topic in topics), "topic name")
    _unique((topic.category for topic in topics), "category")
    _unique((event for topic in topics for event in topic.events), "event type")
    return Catalogue(
        topics={topic.name: topic for topic in topics},
        bundles=_bundles(document.get("bundles", {}), {topic.category for topic in topics}),
        subject_prefix=_text(document.get("subject", "odin.token"), "subject"),
    )


def _topic(row: Any, place: str) -> Topic:
    if not isinstance(row, dict):
        raise CatalogueError(f"{place}: a table is needed")
    _only(row, {"name", "category", "events", "key", "value"}, place)
    name = _text(row.get("name"), f"{place}.name")
    return Topic(
        name=name,
        category=_word(row.get("category"), f"{place}.category"),
        events=_texts(row.get("events", []), f"{place}.events"),
        key=_format(row.get("key", "text"), KeyFormat, f"{place}.key ({name})"),
        value=_format(row.get("value", "json"), ValueFormat, f"{place}.value ({name})"),
    )


def _format(value: Any, formats: type[_Format], place: str) -> _Format:
    if isinstance(value, str) and value in list(formats):
        return formats(value)
    raise CatalogueError(f"{place}: {value!r} is none of {', '.join(formats)}")


def _bundles(table: Any, categories: set[str]) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise CatalogueError("bundles: a table is needed")
    bundles = {}
    for name, members in table.items():
        place = f"bundles.{name}"
        if _word(name, place) in categories:
            msg = f"{place}: is the name of a category too"
            raise CatalogueError(msg)
        bundles[name] = _texts(members, place)
        if not members:
            raise CatalogueError(f"{place}: at least one category is needed")
        if unknown := set(bundles[name]) - categories:
            msg = f"{place}: unknown category {', '.join(sorted(unknown))}"
            raise CatalogueError(msg)
    return bundles


def _only(table: dict[str, Any], allowed: set[str], place: str) -> None:
    if unknown := set(table) - allowed:
        raise CatalogueError(
            f"{place}: unknown key {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(allowed))}"
        )


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise CatalogueError(f"{place}: a text is needed, not {value!r}")
    return value


def _word(value: Any, place: str) -> str:
    """A category or bundle: it is what follows the last dot, so it has none itself."""
    word = _text(value, place)
    if "." in word or ANY in word:
        raise CatalogueError(f"{place}: {word!r} may hold neither a dot nor a *")
    return word


def _texts(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise CatalogueError(f"{place}: a list of texts is needed, not {value!r}")
    return tuple(_text(item, place) for item in value)


def _unique(names: Iterable[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CatalogueError(f"{what} given twice: {', '.join(twice)}")
