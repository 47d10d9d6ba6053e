"""The command itself: what it lists, and that it is quick where nothing is to be done."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from odin_ws import __version__
from odin_ws.cli import main

COMMANDS = (
    "serve",
    "config",
    "topics",
    "publish",
    "tail",
    "demo",
    "bench",
    "conformance",
    "version",
)


def test_help_lists_every_command() -> None:
    """Each command is listed with what it does."""
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    lines = [line.split(maxsplit=1) for line in shown.output.splitlines() if line]
    listed = {line[0]: line[1] for line in lines[-len(COMMANDS) :]}
    assert tuple(listed) == COMMANDS
    assert all(listed.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """`-h` works for each command."""
    shown = CliRunner().invoke(main, [command, "-h"])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: main {command}")


def test_an_unknown_command_is_a_usage_error() -> None:
    """A misspelt command ends with 2, and its name is said."""
    shown = CliRunner().invoke(main, ["sevre"])
    assert shown.exit_code == 2
    assert "sevre" in shown.output


def test_version_prints_the_version() -> None:
    """`odin-ws version` prints name and version."""
    shown = CliRunner().invoke(main, ["version"])
    assert shown.exit_code == 0
    assert shown.output == f"odin-ws {__version__}\n"


def test_version_loads_nothing_it_does_not_need() -> None:
    """The version is known without the libraries of the server."""
    program = (
        "import sys; from odin_ws.cli import main; main(['version'], standalone_mode=False); "
        "sys.exit(bool({'trio', 'aiokafka', 'rich', 'starlette'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
