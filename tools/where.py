"""Writes docs/where.md: every module of the server with the first line of its docstring.

usage: python tools/where.py
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

__all__ = ["page"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "where.md"

_HEAD = """\
# Where is what

Every module of `src/odin_ws/` with the first line of its docstring.
`python tools/where.py` writes this page; a test fails while it is out of date.
[The way of a record](design/way-of-a-record.md) walks the modules in the order of a record.
[The glossary](glossary.md) explains the words.
"""


def page() -> str:
    """Return the page as it should be."""
    source = ROOT / "src" / "odin_ws"
    folders: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*.py")):
        folders.setdefault(path.parent.relative_to(source).as_posix(), []).append(path)
    parts = [_HEAD]
    for folder, paths in folders.items():
        package = "src/odin_ws" if folder == "." else f"src/odin_ws/{folder}"
        about = _first_line(source / folder / "__init__.py")
        parts.append(f"\n## {package.removeprefix('src/')}\n\n{about}\n\n")
        parts.append("| module | what it does |\n|---|---|\n")
        parts += [
            f"| [`{path.name}`](../{package}/{path.name}) | {_first_line(path)} |\n"
            for path in paths
            if path.name != "__init__.py"
        ]
    return "".join(parts)


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: written\n")
