"""tools/compare.py shows a run that fails or hangs as failed, and continues."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "tools" / "compare.py"

# A version whose benchmark does what its first argument says. Where a file `compiled` is missing, a
# run creates it and fails, as one that compiles for too long.
PROGRAM = """
import pathlib, sys, time
compiled = pathlib.Path(__file__).with_name("compiled")
if not compiled.exists():
    compiled.touch()
    sys.exit("the load process did not start")
what, figures = sys.argv[2], sys.argv[-1]
if what == "hang":
    time.sleep(600)
if what == "fail":
    sys.exit("the broker does not start")
with open(figures, "w") as file:
    file.write('{"runs": [{"label": "steady", "cpu_us": 7.5, "latency": {"p50": 8}}]}')
"""


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module, which is in no package."""
    spec = importlib.util.spec_from_file_location("compare", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def version(compare: Any, tmp_path: Path) -> Any:
    """Return a version with the program above."""
    package = tmp_path / "src" / "odin_ws"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM)
    (package / "compiled").touch()
    return compare.Version("now", tmp_path)


def test_failed_runs_are_shown_and_the_others_go_on(
    compare: Any, version: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run fails, one hangs, one has figures."""
    rows = compare.rows_of(["fail", "hang", "steady"])
    failed = compare.compare([version], rows, rounds=1, seconds=5.0)
    assert failed == ["fail, round 1, now", "hang, round 1, now"]
    printed = capsys.readouterr().out
    assert "failed: the broker does not start" in printed
    assert "failed: not finished after 5 s" in printed
    (figures,) = (line for line in printed.splitlines() if "  steady  " in line)
    assert figures.split()[:4] == ["now", "steady", "8.00", "-"]
    assert "7.50" in figures


def test_medians_of_all_rounds_are_printed(
    compare: Any, version: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the figures of each run."""
    assert compare.compare([version], {"steady": ["steady"]}, rounds=2, seconds=30.0) == []
    printed = capsys.readouterr().out
    assert printed.count("7.50") == 3
    assert "median" in printed


def test_version_that_does_not_start_here_is_found_before_the_runs(
    compare: Any, tmp_path: Path
) -> None:
    """The reason is the end of the version's output."""
    package = tmp_path / "src" / "odin_ws"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import a_library_of_the_past")
    with pytest.raises(compare.BenchFailed, match="No module named 'a_library_of_the_past'"):
        compare.Version("before", tmp_path).check()


def test_version_is_compiled_before_its_first_run(version: Any) -> None:
    """A short run is tried again: what the first one has compiled stays."""
    compiled = version.root / "src" / "odin_ws" / "compiled"
    compiled.unlink()
    version.prepare(30.0)
    assert compiled.exists()


def test_version_that_fails_a_short_run_twice_is_not_compared(compare: Any, version: Any) -> None:
    """The reason is the end of what it prints."""
    (version.root / "src" / "odin_ws" / "__main__.py").write_text("exit('no broker')")
    with pytest.raises(compare.BenchFailed, match="no broker"):
        version.prepare(30.0)


def test_rows_are_names_or_arguments(compare: Any) -> None:
    """By default all rows."""
    assert compare.rows_of([]).keys() == compare.ROWS.keys()
    assert compare.rows_of(["storm", "steady --rate 5"]) == {
        "storm": ["storm"],
        "steady --rate 5": ["steady", "--rate", "5"],
    }
