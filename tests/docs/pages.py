"""Reads the documentation's pages: tables, blocks of code, links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

__all__ = ["ROOT", "Block", "as_table", "blocks", "cell", "links", "page", "pages", "read_table"]

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")
# An escaped bar is text, not a border.
_BORDER = re.compile(r"(?<!\\)\|")


@attrs.frozen
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def pages() -> list[Path]:
    """Every page of the documentation, those for developers too."""
    others = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "compose" / "README.md"]
    return [*others, *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    """The text of a page, by its path from the repository's root."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[Block]:
    """The fenced blocks in one language."""
    return [Block(*found) for found in _FENCE.findall(text) if found[0] == language]


def links(text: str) -> list[str]:
    """The targets of a page's links, except in code."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    return _LINK.findall(prose)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def read_table(text: str, name: str) -> list[list[str]]:
    """The rows after the mark `<!-- table: name -->`, without the head; cells as written."""
    _, mark, behind = text.partition(f"<!-- table: {name} -->\n")
    assert mark, f"there is no mark for a table {name!r}"
    return list(_rows(behind))[2:]


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if not line.startswith("|"):
            return
        yield [word.strip() for word in _BORDER.split(line)[1:-1]]


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return text.replace("|", r"\|")


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as Markdown, to be pasted under a table's head."""
    lines = ("|".join(f" {one} " if one else " " for one in row) for row in rows)
    return "\n".join(f"|{line}|" for line in lines)
