"""Output that cannot be written ends a command with one line and a status, and no traceback."""

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
    """Run a command; what it says on stderr is text."""
    environ = environment(options.pop("settings", {}))
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [ODIN_WS, *words], env=environ, text=True, timeout=PATIENCE, check=False, **options
    )


@contextmanager
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that has no room, and that nobody reads."""
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
    """The line says what could not be written, and why."""
    with Path("/dev/full").open("wb") as full:
        done = run(*words, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "odin-ws: standard output: No space left on device\n"


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_closed_pipe_is_a_good_end(words: list[str]) -> None:
    """Whoever read it has had enough, as `head` has: status 0, and not a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def not_open() -> None:
    """Without a standard output."""
    os.close(1)


def read_only() -> None:
    """With one that can only be read."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 1)


def no_larger_files() -> None:
    """Files may not grow, as under a quota."""
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
    """Whatever the reason is."""
    with (tmp_path / "output").open("wb") as file:
        done = run(*words, stdout=file, preexec_fn=prepare)
    assert done.returncode == 1
    assert done.stderr == f"odin-ws: standard output: {why}\n"


WRONG = {"WS_MAX_CONNECTIONS": "none"}


def test_unread_stderr_does_not_keep_a_failed_start_from_ending() -> None:
    """Its line is dropped after a second; an orchestrator sees the status."""
    with full_pipe() as pipe:
        done = run("serve", stderr=pipe, settings=WRONG)
    assert done.returncode == 2


@pytest.mark.parametrize("words", [["serve"], ["config"], ["publish"]], ids=" ".join)
def test_unwritable_stderr_does_not_change_the_status(words: list[str]) -> None:
    """Nothing more can be said, and what the status says stays true."""
    with Path("/dev/full").open("wb") as full:
        assert run(*words, stderr=full, settings=WRONG).returncode == 2
    assert run(*words, stderr=None, preexec_fn=lambda: os.close(2), settings=WRONG).returncode == 2


def test_output_is_whole_where_stderr_cannot_be_written() -> None:
    """A warning that nobody can see costs nothing else."""
    with Path("/dev/full").open("wb") as full:
        done = run(
            "config", stdout=subprocess.PIPE, stderr=full, settings={"WS_FOREIGN_THING": "1"}
        )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 + len(list(declared_settings()))


def test_file_on_a_full_disk_is_a_failure_that_names_it() -> None:
    """Also when it is closed after that nothing is tried again."""
    with Path("/dev/full").open("wb") as full, pytest.raises(OutputFailed) as failed:
        write_all(full, b"figures")
    assert str(failed.value) == "/dev/full: No space left on device"


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_bench_says_before_it_begins_that_a_file_cannot_be_written(
    option: str, tmp_path: Path
) -> None:
    """Not after half an hour."""
    path = tmp_path / "missing" / "figures"
    done = run("bench", "steady", option, str(path))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"Error: Invalid value for '{option}':")
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
