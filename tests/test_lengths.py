"""Modules and functions are short enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FILES: Final = sorted(
    path
    for folder in ("src", "clients/python/src", "tests", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)

MODULE_LINES: Final = 400
# Without the signature and the docstring.
FUNCTION_LINES: Final = 45

# Longer modules, and why they are not divided.
LONG_MODULES: Final = {
    "src/odin_ws/kafka/batch_records.py": "one format, decoded in one pass: calls cost time",
}


def function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of each function of a module, and its lines after the docstring."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node, clean=False) is not None
            body = node.body[1:] if has_docstring else node.body
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - body[0].lineno + 1 if body else 0


def test_modules_are_short() -> None:
    """At most 400 lines each, apart from the exceptions."""
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in FILES
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}
    assert too_long.keys() - LONG_MODULES.keys() == set(), too_long
    assert LONG_MODULES.keys() - too_long.keys() == set(), "exceptions that nothing needs"


def test_functions_are_short() -> None:
    """At most 45 lines each, after the docstring."""
    too_long = {
        f"{path.relative_to(ROOT).as_posix()} {name}": lines
        for path in FILES
        for name, lines in function_lengths(path)
        if lines > FUNCTION_LINES
    }
    assert too_long == {}
