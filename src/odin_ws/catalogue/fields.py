"""Reads the fields of a catalogue file; each error names the field and what is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from odin_ws.catalogue.errors import CatalogueError
from odin_ws.pattern import ANY

__all__ = [
    "check_keys",
    "check_unique",
    "read_format",
    "read_table",
    "read_text",
    "read_texts",
    "read_word",
]

_Format = TypeVar("_Format", bound=StrEnum)


def read_format(value: Any, formats: type[_Format], location: str) -> _Format:
    """Return the format named by `value`."""
    if isinstance(value, str) and value in list(formats):
        return formats(value)
    raise CatalogueError(location, f"must be one of {', '.join(formats)}, not {value!r}")


def check_keys(table: dict[str, Any], allowed: set[str], location: str) -> None:
    """Raise CatalogueError if `table` has a key that is not in `allowed`."""
    unknown = sorted(set(table) - allowed)
    if not unknown:
        return
    problem = f"unknown key {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}"
    where = f"{location}." if location else ""
    raise CatalogueError(f"{where}{unknown[0]}", problem)


def read_table(value: Any, location: str) -> dict[str, Any]:
    """Return `value` if it is a table."""
    if not isinstance(value, dict):
        raise CatalogueError(location, "must be a table")
    return value


def read_text(value: Any, location: str) -> str:
    """Return `value` if it is a non-empty string."""
    if value is None:
        raise CatalogueError(location, "is missing: must be a string")
    if not isinstance(value, str) or not value:
        raise CatalogueError(location, f"must be a string, not {value!r}")
    return value


def read_word(value: Any, location: str) -> str:
    """Return `value` if it is a name of a category or bundle: without a dot, which ends a token."""
    word = read_text(value, location)
    if "." in word or ANY in word:
        raise CatalogueError(location, f"{word!r} must not contain a dot or *")
    return word


def read_texts(value: Any, location: str) -> tuple[str, ...]:
    """Return `value` if it is a list of non-empty strings."""
    if not isinstance(value, list):
        raise CatalogueError(location, f"must be a list of strings, not {value!r}")
    return tuple(read_text(item, location) for item in value)


def check_unique(names: Iterable[tuple[str, str]], what: str) -> None:
    """Raise CatalogueError at the location of the first repeated name.

    `names`: pairs of a location and the name at it.
    """
    seen: Counter[str] = Counter()
    for location, name in names:
        if seen[name]:
            raise CatalogueError(location, f"duplicate {what}: {name}")
        seen[name] += 1
