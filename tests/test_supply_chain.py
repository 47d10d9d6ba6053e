"""Dependencies are the pinned ones, and no module starts other programs without a reason."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = (ROOT / "src" / "odin_ws", ROOT / "clients" / "python" / "src")

# The supervisor starts workers; the others are tests, benchmarks and the demo.
STARTS_PROCESSES: Final = {"bench", "cli/bench_display.py", "cli/demo.py", "testing", "workers"}

SHELLS: Final = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
PROCESSES: Final = {"subprocess", "multiprocessing", "lowlevel.open_process", "trio.run_process"}


def trees() -> Iterator[tuple[str, ast.AST]]:
    """Every module of the repository, by path."""
    for source in SOURCES:
        for path in source.rglob("*.py"):
            yield path.relative_to(source).as_posix(), ast.parse(path.read_text("utf-8"))


def names(tree: ast.AST) -> set[str]:
    """The names that a module imports, calls or passes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=several) | ast.ImportFrom(names=several):
                found |= {one.name.partition(".")[0] for one in several}
                found.add((getattr(node, "module", None) or "").partition(".")[0])
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                found.add(f"{module}.{name}")
            case ast.keyword(arg=str(name)):
                found.add(name)
    return found


def test_no_shell_is_started() -> None:
    """Not even in the tests' tools: an argument cannot become a command."""
    found = {path: names(tree) & {*SHELLS, "shell"} for path, tree in trees()}
    assert {path: several for path, several in found.items() if several} == {}


def test_only_few_modules_start_processes() -> None:
    """The server itself starts only its workers."""
    found = {path for path, tree in trees() if names(tree) & PROCESSES}
    assert {path for path in found if not any(map(path.startswith, STARTS_PROCESSES))} == set()
    assert any(path.startswith("workers") for path in found)


@pytest.mark.processes
def test_installed_versions_are_the_pinned_ones() -> None:
    """Every version is the pinned one, no requirement is missing, and none conflicts."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = {
        canonical(distribution.metadata["Name"]): distribution.version
        for distribution in distributions()
    }
    differing = {
        str(one): found[canonical(one.name)]
        for one in pinned
        if (one.marker is None or one.marker.evaluate())
        and canonical(one.name) in found
        and not one.specifier.contains(found[canonical(one.name)])
    }
    assert differing == {}
    command = [sys.executable, "-m", "pip", "check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def canonical(name: str) -> str:
    """A project's name as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_server_is_installed_together_with_its_client() -> None:
    """Pip must be given the client, since it may not be in a registry."""
    named = ("Dockerfile", "tools/environment.sh", "deploy/odin-ws.service", "README.md")
    files = [*(ROOT / name for name in named), *(ROOT / "docs").glob("*.md")]
    joined = [file.read_text("utf-8").replace("\\\n", " ") for file in files]
    every = (line for text in joined for line in text.splitlines())
    lines = [line for line in every if "pip install" in line or "pip wheel" in line]
    # `.` or ".[extra]" as a word: this folder.
    found = [line for line in lines if re.search(r"""[ "']\.(?=[\["' ]|$)""", line)]
    assert len(found) >= 4
    assert all("./clients/python" in one for one in found), found


def test_only_programs_are_executable() -> None:
    """No other file of the repository has the executable bit."""
    folders = ("src", "clients/python", "tests", "docs", "deploy", "compose", ".ci")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    found = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.stat().st_mode & 0o111 and "node_modules" not in path.parts
    }
    # Built files are not in the repository.
    assert found - {"tests/kfake/kfake", "tests/interop/go/client"} == {".ci/run"}
