"""`odin-ws catalogue`: checks and prints a catalogue file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import orjson

from odin_ws.catalogue import Catalogue, CatalogueError, load_catalogue
from odin_ws.cli.examples import examples
from odin_ws.cli.tables import print_table
from odin_ws.settings.text_file import UnreadableFile, read_text_file

__all__ = ["catalogue"]


@click.group(
    short_help="Check a catalogue file.",
    epilog=examples(("Check a file", "odin-ws catalogue check examples/scores.toml")),
)
def catalogue() -> None:
    """Check the file of topics, categories and bundles of another domain (WS_CATALOGUE)."""


@catalogue.command(
    epilog=examples(
        ("A file before a deployment", "odin-ws catalogue check examples/scores.toml"),
        ("For a program", "odin-ws catalogue check examples/scores.toml --json"),
    )
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: Path, as_json: bool) -> None:  # noqa: FBT001 -- a flag
    """Check FILE and print its topics, categories, event types and bundles.

    An error is one line with file, line, field and what is allowed. Exit status 1 after an error,
    2 if there is no such file.
    """
    try:
        found = load_catalogue(read_text_file(file))
    except (CatalogueError, UnreadableFile) as error:
        location = error.location if isinstance(error, CatalogueError) else ""
        line = error.line
        if as_json:
            problem = {"line": line, "place": location, "message": str(error)}
            _print_json({"file": str(file), "valid": False, "problem": problem})
        else:
            where = str(file) if line is None else f"{file}:{line}"
            click.echo(f"{where}: {error}", err=True)
        sys.exit(1)
    if as_json:
        _print_json({"file": str(file), "valid": True} | _as_json(found))
    else:
        _print_tables(found)


def _print_json(value: dict[str, Any]) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def _as_json(found: Catalogue) -> dict[str, Any]:
    return {
        "topics": [
            {
                "name": topic.name,
                "category": topic.category,
                "events": topic.events,
                "key": topic.key,
                "value": topic.value,
            }
            for topic in found.topics.values()
        ],
        "bundles": found.bundles,
        "demo": {"tokens": found.demo.tokens},
    }


def _print_tables(found: Catalogue) -> None:
    topics = [
        (topic.name, topic.category, topic.key, topic.value, ", ".join(topic.events) or "-")
        for topic in found.topics.values()
    ]
    headings = ("topic", "category", "key", "value", "event types")
    print_table(headings, topics, [""] * len(topics))
    if found.bundles:
        click.echo()
        bundles = [(name, ", ".join(members)) for name, members in found.bundles.items()]
        print_table(("bundle", "categories"), bundles, [""] * len(bundles))
    if found.demo.tokens:
        click.echo(f"\ntokens of odin-ws demo: {', '.join(found.demo.tokens)}")
