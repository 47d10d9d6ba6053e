"""docs/where.md has the first line of each module's docstring."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_where_page_is_current() -> None:
    """Every module is on the page with the first line of its docstring."""
    code = "import sys; sys.path.insert(0, 'tools'); import where; print(where.page(), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert (ROOT / "docs" / "where.md").read_text("utf-8") == made, "run python tools/where.py"
    packages = (ROOT / "src" / "odin_ws", ROOT / "clients" / "python" / "src")
    assert made.count("\n| [`") == sum(
        path.name != "__init__.py" for package in packages for path in package.rglob("*.py")
    )
