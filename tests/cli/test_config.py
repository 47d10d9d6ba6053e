"""`odin-ws config`, and how commands report invalid settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from odin_ws.cli import main
from odin_ws.settings import declared_settings


def config(**settings: str) -> Result:
    """Run `odin-ws config` with only these settings."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith(("WS_", "KAFKA_")))
    return CliRunner().invoke(main, ["config"], env=unset | settings)


def lines(shown: Result) -> dict[str, str]:
    """Return the lines of a table by their first word, without that word."""
    split = (line.split(maxsplit=1) for line in shown.stdout.splitlines())
    return {words[0]: words[1] for words in split}


def test_piped_table_has_one_line_per_setting() -> None:
    """No line is folded in a pipe, so that `grep` finds the whole setting."""
    shown = config()
    assert shown.exit_code == 0
    names = [setting.name for _, setting in declared_settings()]
    assert list(lines(shown)) == ["setting", *names]
    for _, setting in declared_settings():
        assert lines(shown)[setting.name].endswith(setting.help)


def test_value_is_shown_with_source_and_unit() -> None:
    """Values of the environment are marked as such, beside the defaults."""
    shown = lines(config(WS_MAX_KAFKA_RATE="2500", WS_ADDR="[::1]:4000", KAFKA_BROKERS="a:1, b:2"))
    assert shown["WS_MAX_KAFKA_RATE"].startswith("2500 records/s ")
    assert "environment" in shown["WS_MAX_KAFKA_RATE"]
    assert shown["WS_ADDR"].startswith("[::1]:4000 ")
    assert shown["KAFKA_BROKERS"].startswith("a:1,b:2 ")
    assert "default" in shown["WS_MAX_BROADCAST_RATE"]


def test_unset_setting_has_no_unit() -> None:
    """An unset setting shows what holds instead, without a unit."""
    shown = lines(config())["WS_MAX_CONNECTIONS_PER_IP"]
    assert shown.split()[:2] == ["-", "default"]
    assert shown.endswith("default: 1000 for a public address, no limit for others")
    assert lines(config(WS_MAX_CONNECTIONS_PER_IP="0"))["WS_MAX_CONNECTIONS_PER_IP"].startswith(
        "0 "
    )


def test_secret_is_masked(tmp_path: Path) -> None:
    """A secret shows only that it is set, and whether by the environment or a file."""
    file = tmp_path / "password"
    value = "correct horse"
    file.write_text(value, encoding="utf-8")
    user = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin"}
    given = config(KAFKA_SASL_PASSWORD=value, **user)
    filed = config(KAFKA_SASL_PASSWORD_FILE=str(file), **user)
    assert lines(given)["KAFKA_SASL_PASSWORD"].split()[:2] == ["***", "environment"]
    assert lines(filed)["KAFKA_SASL_PASSWORD"].split()[:2] == ["***", "file"]
    assert lines(config())["KAFKA_SASL_PASSWORD"].split()[:2] == ["-", "default"]
    assert value not in given.output + filed.output


def test_settings_as_json() -> None:
    """Each setting has value, unit and source; secrets are masked, and nothing is a string only."""
    user = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin"}
    shown = CliRunner().invoke(
        main, ["config", "--json"], env=user | {"KAFKA_SASL_PASSWORD": "correct horse"}
    )
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert list(found) == [setting.name for _, setting in declared_settings()]
    assert found["KAFKA_BROKERS"]["value"] == ["localhost:9092"]
    assert found["WS_MAX_CONNECTIONS"]["value"] == 12000
    assert found["WS_MAX_CONNECTIONS"]["from"] == "default"
    assert found["KAFKA_SASL_PASSWORD"]["value"] == "***"
    assert found["KAFKA_SASL_USERNAME"]["from"] == "environment"
    assert found["WS_ADDR"]["value"] == ":3002"
    assert "correct horse" not in shown.output


def test_unknown_names_are_one_warning_on_stderr() -> None:
    """Names that may belong to other programs are listed; the status stays 0."""
    shown = config(WS_FOREIGN_THING="1")
    assert shown.exit_code == 0
    assert shown.stderr.count("\n") == 1
    assert "WS_FOREIGN_THING" in shown.stderr


@pytest.mark.parametrize(
    "command", [["config"], ["serve"], ["topics", "list"], ["publish"], ["demo"]]
)
def test_invalid_settings_exit_with_status_2(command: list[str]) -> None:
    """Values out of range and near misses of names are each reported."""
    bad = {"WS_MAX_CONNECTIONS": "none", "WS_ADDR": "3002", "KAFKA_GROUP_ID": "me"}
    shown = CliRunner().invoke(main, command, env=bad)
    assert shown.exit_code == 2
    assert not shown.stdout
    problems = shown.stderr.splitlines()
    assert len(problems) == 3
    assert all(line.startswith("odin-ws: ") for line in problems)
    assert all(any(name in line for line in problems) for name in bad)
    assert "KAFKA_CONSUMER_GROUP" in shown.stderr


def test_invalid_catalogue_exits_with_status_2(tmp_path: Path) -> None:
    """The message names the file and the place of the mistake."""
    path = tmp_path / "catalogue.toml"
    path.write_text("topics = 1", encoding="utf-8")
    shown = CliRunner().invoke(main, ["topics", "list"], env={"WS_CATALOGUE": str(path)})
    assert shown.exit_code == 2
    assert str(path) in shown.stderr
    assert "topics" in shown.stderr


def test_dead_letter_topic_in_catalogue_exits_with_status_2() -> None:
    """The server would read each dead letter as a record again."""
    wrong = {"KAFKA_DEAD_LETTER_TOPIC": "odin.trades"}
    shown = CliRunner().invoke(main, ["serve"], env=wrong)
    assert shown.exit_code == 2
    assert shown.stderr == (
        "odin-ws: KAFKA_DEAD_LETTER_TOPIC=odin.trades: must not be a topic of the catalogue\n"
    )
