"""`odin-ws config`: the effective settings and where each comes from."""

from __future__ import annotations

import os

import click
import orjson

from odin_ws.address import Address
from odin_ws.cli.environment import read_settings
from odin_ws.cli.examples import examples
from odin_ws.cli.tables import print_table
from odin_ws.settings import Settings, declared_settings

__all__ = ["config"]


@click.command(
    short_help="Print every setting and where it comes from.",
    epilog=examples(
        ("All settings in effect", "odin-ws config"),
        ("Check a value before a deployment", "WS_HISTORY_SECONDS=600 odin-ws config"),
        ("For a program", "odin-ws config --json"),
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
def config(as_json: bool) -> None:  # noqa: FBT001 -- a flag
    """Print every setting: its value, unit, source and description.

    Secrets are printed as ***. Exit status 2 if a setting is invalid.
    """
    settings = read_settings(lambda line: click.echo(line, err=True))
    if as_json:
        _print_json(settings)
        return
    rows = []
    styles = []
    for field, setting in declared_settings():
        origin = setting.origin(os.environ)
        value = getattr(settings, field)
        text = "" if value is None else f"{_text(value)} {setting.unit}".strip()
        rows.append((setting.name, text or "-", origin, setting.help))
        styles.append("" if origin == "default" else "bold")
    print_table(("setting", "value", "from", "what it does"), rows, styles)


def _print_json(settings: Settings) -> None:
    document = {
        setting.name: {
            "value": _json_value(getattr(settings, field)),
            "unit": setting.unit,
            "from": setting.origin(os.environ),
            "help": setting.help,
        }
        for field, setting in declared_settings()
    }
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _json_value(value: object) -> object:
    """Return a value as JSON has it; secrets as ***."""
    match value:
        case Address():  # before tuples: an Address is one
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return list(value)
        case _:
            return str(value)


def _text(value: object) -> str:
    match value:
        case Address():
            return str(value)
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)
