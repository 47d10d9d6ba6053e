"""`odin-ws catalogue check`: tables of a right file, one line about a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from odin_ws.cli import main

EXAMPLES = sorted(Path("examples").glob("*.toml"))


def check(path: Path, *words: str) -> Result:
    """Run `odin-ws catalogue check`."""
    return CliRunner().invoke(main, ["catalogue", "check", str(path), *words])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_right(path: Path) -> None:
    """Each example passes, has bundles and tokens, and a rule for each event type."""
    shown = check(path, "--json")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert found["valid"]
    assert found["bundles"]
    assert found["demo"]["tokens"]
    assert all(topic["events"] for topic in found["topics"])


def test_there_are_two_examples() -> None:
    """The documentation names both."""
    assert [path.stem for path in EXAMPLES] == ["scores", "sensors"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"# t\n\xff\n", ":2: is not UTF-8 text: byte 0xff in line 2"),
        (None, ": is larger than 1048576 bytes"),
    ],
    ids=["binary", "endless"],
)
def test_file_that_is_no_text(tmp_path: Path, content: bytes | None, text: str) -> None:
    """One line; a device without an end does not take all memory."""
    path = Path("/dev/zero") if content is None else tmp_path / "binary.toml"
    if content is not None:
        path.write_bytes(content)
    shown = check(path)
    assert shown.exit_code == 1
    assert shown.stderr == f"{path}{text}\n"
    problem = json.loads(check(path, "--json").stdout)["problem"]
    assert problem["line"] == (None if content is None else 2)


def test_tables_of_a_right_file() -> None:
    """Topics with category, formats and event types; bundles; tokens of the demo."""
    shown = check(Path("examples/sensors.toml"))
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["topic", "category", "key", "value", "event", "types"]
    assert lines[1].split() == ["sensors.readings", "reading", "json", "json", "CLIMATE,", "POWER"]
    assert "ROOM    reading, alarm" in lines
    assert lines[-1] == "tokens of odin-ws demo: b1.kitchen, b1.server-room, b2.lobby"


def test_file_without_bundles_and_events(tmp_path: Path) -> None:
    """Only one table, with a dash for the event types."""
    path = tmp_path / "one.toml"
    path.write_text('[[topics]]\nname = "t"\ncategory = "c"\n', "utf-8")
    assert check(path).stdout.splitlines()[1:] == ["t      c         text  json   -"]


def test_error_is_one_line_with_file_line_field_and_what_is_allowed(tmp_path: Path) -> None:
    """The status is 1, and the line begins as those of a compiler."""
    path = tmp_path / "wrong.toml"
    path.write_text('[[topics]]\nname = "t"\ncategory = "c"\nkey = "avro"\n', "utf-8")
    shown = check(path)
    assert shown.exit_code == 1
    assert not shown.stdout
    assert shown.stderr == (
        f"{path}:4: topics[0].key (t): must be one of text, json, confluent, not 'avro'\n"
    )


def test_error_as_json(tmp_path: Path) -> None:
    """A program gets line, place and message."""
    path = tmp_path / "wrong.toml"
    path.write_text("[[topics]\n", "utf-8")
    shown = check(path, "--json")
    assert shown.exit_code == 1
    found = json.loads(shown.stdout)
    assert not found["valid"]
    assert found["problem"]["line"] == 1
    assert found["problem"]["message"].startswith("not TOML")


def test_missing_file_exits_with_status_2(tmp_path: Path) -> None:
    """The error names the file."""
    shown = check(tmp_path / "none.toml")
    assert shown.exit_code == 2
    assert "none.toml" in shown.stderr
