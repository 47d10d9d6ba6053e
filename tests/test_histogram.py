"""The wheel has every file of the package, the sdist what operators and tests need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

BUILD_SECONDS = 100

# What operators take from the source distribution: a wheel installs only the package.
FOR_OPERATORS = (
    "compose/compose.yaml",
    "deploy/grafana/odin-ws.json",
    "deploy/haproxy/haproxy.cfg",
    "deploy/kubernetes/chart/Chart.yaml",
    "deploy/odin-ws.service",
    "deploy/prometheus/rules.yml",
    "examples/scores.toml",
    "examples/sensors.toml",
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of this tree, by their suffix."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return {path.suffix: path for path in folder.iterdir()}


def package_files() -> Iterator[str]:
    """Every file of the package, code or not."""
    for path in (SOURCE / "odin_ws").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(SOURCE).as_posix()


@pytest.mark.processes
def test_wheel_has_every_file_of_the_package(archives: dict[str, Path]) -> None:
    """Code, the console's page, the catalogue, the cases of conformance; and nothing else."""
    with zipfile.ZipFile(archives[".whl"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        for name in sorted(names):
            assert wheel.read(name) == (SOURCE / name).read_bytes(), name
    expected = set(package_files())
    assert names == expected
    suffixes = {Path(name).suffix for name in names}
    assert {".py", ".html", ".js", ".css", ".toml", ".jsonl", ".c", ".typed"} <= suffixes


@pytest.mark.processes
def test_wheel_brings_command_and_plugin(archives: dict[str, Path]) -> None:
    """`odin-ws`, and the fixtures for pytest without a conftest.py."""
    with zipfile.ZipFile(archives[".whl"]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        text = wheel.read(name).decode()
    assert "[console_scripts]\nodin-ws = odin_ws.__main__:main\n" in text
    assert "[pytest11]\nodin_ws.testing.plugin = odin_ws.testing.plugin\n" in text


@pytest.mark.processes
def test_sdist_has_what_operators_take(archives: dict[str, Path]) -> None:
    """Alert rules, dashboard, configurations, chart, examples; all docs and the package too."""
    with tarfile.open(archives[".gz"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names.issuperset(FOR_OPERATORS)
    assert names.issuperset(f"src/{name}" for name in package_files())
    docs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert names >= docs
