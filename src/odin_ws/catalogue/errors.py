"""The error of an invalid catalogue file, and the line at which the file is invalid."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CatalogueError", "line_of"]

# topics[0].key, bundles.ALL, demo.data.GOAL.minute; text after a space is an explanation.
_LOCATION: Final = re.compile(r"(?P<table>\w+)(?:\[(?P<index>\d+)\])?(?:\.(?P<rest>\S+))?")
_HEADER: Final = re.compile(r"\s*\[+\s*(?P<name>[^\]]+?)\s*\]")
_KEY: Final = re.compile(r"\s*(?P<key>\"[^\"]*\"|'[^']*'|[\w-]+)\s*=")


class CatalogueError(ValueError):
    """An invalid catalogue file.

    Attributes:
        location: the field, such as `topics[0].key`; empty for the whole file.
        line: the field's line in the file, from 1; None if the field is missing, or written in
            another form than in the examples.
    """

    def __init__(self, location: str, problem: str, line: int | None = None) -> None:
        super().__init__(f"{location}: {problem}" if location else problem)
        self.location = location
        self.line = line


def line_of(text: str, location: str) -> int | None:
    """Return the line of a field of a TOML file, else that of its table's header, else None.

    Finds only tables with a header, and fields on a line of their own.
    """
    found = _LOCATION.match(location)
    if found is None:
        return None
    names = [found["table"], *(found["rest"] or "").split(".")]
    lines = text.splitlines()
    # The most specific table with a header: demo.data.GOAL, else demo.data, else demo.
    for count in range(len(names), 0, -1):
        header = _header(lines, ".".join(filter(None, names[:count])), int(found["index"] or 0))
        if header is not None:
            key = names[count] if count < len(names) else None
            return _key(lines, header, key) or header
    return _key(lines, 0, names[0])


def _header(lines: list[str], name: str, index: int) -> int | None:
    headers = [
        number
        for number, line in enumerate(lines, 1)
        if (found := _HEADER.match(line)) is not None and found["name"] == name
    ]
    return headers[index] if index < len(headers) else None


def _key(lines: list[str], header: int, key: str | None) -> int | None:
    for number, line in enumerate(lines[header:], header + 1):
        if _HEADER.match(line):
            return None
        found = _KEY.match(line)
        if found is not None and found["key"].strip("\"'") == key:
            return number
    return None
