"""`make setup` takes a supported Python, or prints in one line which versions are supported."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What the script calls beside Python.
TOOLS = ("bash", "rm", "sed", "seq")

FAKE = """#!/bin/sh
case "$*" in
*version_info*) echo {version} ;;
*ensurepip*) exit {without_venv} ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*"pip install"*) echo "Downloading a_package-1.2-py3-none-any.whl (1.5 MB)" ;;
esac
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for the PATH, without any Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in (*TOOLS, "cp", "mkdir", "sh"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def interpreter(path: Path, name: str, version: str, *, without_venv: bool = False) -> Path:
    """Put a fake Python on the PATH."""
    file = path / name
    file.write_text(FAKE.format(version=version, without_venv=int(without_venv)))
    file.chmod(0o755)
    return file


def make(path: Path, *chosen: Path) -> tuple[int, list[str]]:
    """Run the script; returns its exit status and lines."""
    command = ["bash", "tools/environment.sh", path.parent / "venv", "demo", *chosen]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={"PATH": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_no_python_is_one_line(path: Path) -> None:
    """A machine without Python gets one line with the supported versions."""
    assert make(path) == (1, ["odin-ws needs Python 3.11 to 3.14, and none is on the PATH"])


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.15"])
def test_unsupported_python_is_one_line(path: Path, version: str) -> None:
    """A Python that is too old or too new is named, and nothing is made."""
    interpreter(path, "python3", version)

    status, lines = make(path)

    assert status == 1
    assert lines == [
        f"odin-ws needs Python 3.11 to 3.14, and none is on the PATH; python3 is Python {version}"
    ]
    assert not (path.parent / "venv").exists()


def test_newest_supported_python_is_taken_if_python3_is_unsupported(path: Path) -> None:
    """The newest supported python3.X on the PATH."""
    interpreter(path, "python3", "3.10")
    interpreter(path, "python3.12", "3.12")
    interpreter(path, "python3.13", "3.13")

    status, lines = make(path)

    assert status == 0
    assert lines[0].startswith(f"Making {path.parent / 'venv'} with Python 3.13 (")


def test_chosen_python_is_taken(path: Path) -> None:
    """PYTHON=… overrides the PATH, and replaces an environment of another version."""
    interpreter(path, "python3", "3.13")
    chosen = interpreter(path, "mine", "3.11")
    make(path)

    status, lines = make(path, chosen)

    assert status == 0
    assert lines[0] == f"Making {path.parent / 'venv'} with Python 3.11 ({chosen})"


def test_chosen_python_that_is_unsupported_is_one_line(path: Path) -> None:
    """A chosen Python is named with its version if it is not supported."""
    chosen = interpreter(path, "mine", "3.9")

    assert make(path, chosen) == (1, [f"odin-ws needs Python 3.11 to 3.14; {chosen} is Python 3.9"])


def test_python_without_venv_is_one_line(path: Path) -> None:
    """The line names Debian's package with venv."""
    interpreter(path, "python3", "3.13", without_venv=True)

    status, lines = make(path)

    assert status == 1
    assert lines == [
        "python3 cannot make virtual environments: install python3-venv (Debian: python3.13-venv)"
    ]


def test_downloads_are_shown_and_a_good_environment_is_kept(path: Path) -> None:
    """Each download is a short line; a second run installs into the same environment."""
    interpreter(path, "python3", "3.13")
    folder = path.parent / "venv"

    first, second = make(path), make(path)

    installing = [f"Installing odin-ws[demo] into {folder}:", "  a_package 1.2 (1.5 MB)"]
    assert first[1][1:] == installing
    assert second == (0, installing)
