"""Unwritable output ends a command with one line and a status, without a traceback."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from odin_ws.cli.failures import OutputFailed
from odin_ws.cli.standard_streams import write_all
from odin_ws.settings import declared_settings
from tests.cli.commands import ODIN_WS, environment

PATIENCE = 60.0

# What prints something without a broker or a server.
PRINTING = [["version"], ["config"], ["--help"], ["serve", "--help"], ["bench", "--help"]]


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its stderr is text."""
    environ = environment(options.pop("settings", {}))
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [ODIN_WS, *words], env=environ, text=True, timeout=PATIENCE, check=False, **options
    )


@contextmanager
def full_pipe() -> Iterator[int]:
    """Return the writing end of a full pipe that has no reader."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 4096)
        os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_full_disk_is_one_line_and_status_1(words: list[str]) -> None:
    """The line has the file and the error."""
    with Path("/dev/full").open("wb") as full:
        done = run(*words, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "odin-ws: standard output: No space left on device\n"


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_closed_pipe_exits_with_status_0(words: list[str]) -> None:
    """The reader has enough, like `head`: status 0 and no error line."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def not_open() -> None:
    """Run without a standard output."""
    os.close(1)


def read_only() -> None:
    """Run with a standard output that is read-only."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 1)


def no_larger_files() -> None:
    """Forbid files to grow, as a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (not_open, "Bad file descriptor"),
        (read_only, "Bad file descriptor"),
        (no_larger_files, "File too large"),
    ],
)
def test_unwritable_output_is_one_line_and_status_1(
    words: list[str], prepare: Callable[[], None], why: str, tmp_path: Path
) -> None:
    """This holds for each kind of failure."""
    with (tmp_path / "output").open("wb") as file:
        done = run(*words, stdout=file, preexec_fn=prepare)
    assert done.returncode == 1
    assert done.stderr == f"odin-ws: standard output: {why}\n"


WRONG = {"WS_MAX_CONNECTIONS": "none"}


def test_unread_stderr_does_not_block_exit() -> None:
    """The line is dropped after a second; an orchestrator sees the status."""
    with full_pipe() as pipe:
        done = run("serve", stderr=pipe, settings=WRONG)
    assert done.returncode == 2


@pytest.mark.parametrize("words", [["serve"], ["config"], ["publish"]], ids=" ".join)
def test_unwritable_stderr_keeps_status(words: list[str]) -> None:
    """The error line is lost, the status is right."""
    with Path("/dev/full").open("wb") as full:
        assert run(*words, stderr=full, settings=WRONG).returncode == 2
    assert run(*words, stderr=None, preexec_fn=lambda: os.close(2), settings=WRONG).returncode == 2


def test_unwritable_stderr_keeps_stdout_complete() -> None:
    """A lost warning does not affect stdout."""
    with Path("/dev/full").open("wb") as full:
        done = run(
            "config", stdout=subprocess.PIPE, stderr=full, settings={"WS_FOREIGN_THING": "1"}
        )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 + len(list(declared_settings()))


def test_file_on_full_disk_is_one_line_and_status_1() -> None:
    """Closing the file does not retry the write."""
    with Path("/dev/full").open("wb") as full, pytest.raises(OutputFailed) as failed:
        write_all(full, b"figures")
    assert str(failed.value) == "/dev/full: No space left on device"


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_bench_reports_unwritable_file_before_measuring(option: str, tmp_path: Path) -> None:
    """The error comes at once, not after half an hour."""
    path = tmp_path / "missing" / "figures"
    done = run("bench", "steady", option, str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"odin-ws: Invalid value for '{option}':")
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
