"""Writes docs/where.md: every module of server and client with the first line of its docstring.

usage: python tools/where.py
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["page"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "where.md"

_HEAD = """\
# Where is what

Every module of the server and of the [Python client](client.md), with its docstring's first line.
`python tools/where.py` writes this page; a test fails while it is out of date.
[The way of a record](design/way-of-a-record.md) walks the modules in the order of a record.
[The glossary](glossary.md) explains the words.
"""


def page() -> str:
    """Return the current content of the page."""
    return (
        _HEAD
        + "".join(_tables("src/odin_ws"))
        + "".join(_tables("clients/python/src/odin_ws_client"))
    )


def _tables(root: str) -> Iterator[str]:
    """Yield a table for each folder of a package."""
    source = ROOT / root
    folders: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*.py")):
        folders.setdefault(path.parent.relative_to(source).as_posix(), []).append(path)
    for folder, paths in folders.items():
        package = root if folder == "." else f"{root}/{folder}"
        about = _first_line(source / folder / "__init__.py")
        yield f"\n## {package.removeprefix('src/')}\n\n{about}\n\n"
        yield "| module | what it does |\n|---|---|\n"
        for path in paths:
            if path.name != "__init__.py":
                yield f"| [`{path.name}`](../{package}/{path.name}) | {_first_line(path)} |\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: written\n")
