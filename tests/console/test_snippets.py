"""The commands and programs of "Try it" are valid for their programs."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import click
import pytest

import odin_ws.ops.console
from odin_ws.catalogue import default_catalogue
from odin_ws.cli import main
from odin_ws.cli.tail import tail
from odin_ws.handshake.request import HandshakeRequest
from odin_ws.http_api import subscription_query
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Subscribe
from odin_ws_client import Subscription
from tests.console.browser import missing

STATIC = Path(odin_ws.ops.console.__file__).parent / "static"

CHOICES: list[dict[str, Any]] = [
    {"channels": ["*.trade"]},
    {"channels": ["BTC.trade", "a.b.*"], "bundles": ["TRADING"], "snapshot": True},
    {"bundles": ["TRADING", "ALL"], "since_ms": 1_795_000_000_000, "delivery": "latest"},
    {
        "channels": ["o'Neill.trade"],
        "max_rate": 2.5,
        "where": {"and": [{"field": "data.side", "eq": "it's"}, {"field": "data.price", "gte": 1}]},
    },
]

URL = "ws://localhost:3002/ws"

SCRIPT = """
import { SNIPPETS, KNOWN } from %s;
import { condition } from %s;
const url = "ws://localhost:3002/ws";
const [choices, filters] = JSON.parse(process.argv[1]);
const made = choices.map((subscription) => {
  const choice = { url, subscription, needsToken: false };
  return Object.fromEntries(Object.entries(SNIPPETS).map(([name, make]) => [name, make(choice)]));
});
const known = Object.fromEntries(Object.entries(KNOWN).map(([name, set]) => [name, [...set]]));
const conditions = filters.map((text) => {
  try { return condition(text); } catch (error) { return error.message; }
});
console.log(JSON.stringify({ made, known, conditions }));
"""

FILTERS: list[tuple[str, Any]] = [
    ("", None),
    ("data.price >= 0.3", {"field": "data.price", "gte": 0.3}),
    ("type = TRADE_EXECUTED", {"field": "type", "eq": "TRADE_EXECUTED"}),
    ('type="a and b"', {"field": "type", "eq": "a and b"}),
    (
        "data.side != buy AND data.amount < 10",
        {"and": [{"field": "data.side", "ne": "buy"}, {"field": "data.amount", "lt": 10}]},
    ),
    ("data.wallet ^= bc1", {"field": "data.wallet", "prefix": "bc1"}),
    ("data.supply > 9007199254740993", {"field": "data.supply", "gt": "9007199254740993"}),
    ('{"not": {"field": "x", "eq": null}}', {"not": {"field": "x", "eq": None}}),
    ("{", "This is not JSON."),
    ("price", "A filter is: a field, one of = != < <= > >= ^= (begins with), and a value."),
]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Return the page's snippets for some choices and filters."""
    node = shutil.which("node") or missing("Node is not installed")
    modules = [json.dumps(str(STATIC / name)) for name in ("snippets.js", "filter.js")]
    filters = [text for text, _ in FILTERS]
    command = [node, "--input-type=module", "-e", SCRIPT % tuple(modules)]
    done = subprocess.run(
        [*command, json.dumps([CHOICES, filters])], capture_output=True, text=True, check=True
    )
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def words(snippet: str) -> list[str]:
    """Split a command as a shell does."""
    return shlex.split(snippet.replace("\\\n", " "), comments=True)


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_snippets_are_valid_commands(page: dict[str, Any], number: int) -> None:
    """For `odin-ws tail`, for /sse, and over WebSocket."""
    choice, made = CHOICES[number], page["made"][number]
    # With its parent: click keeps the help option that it finds first, and `-h` is the parent's.
    parent = click.Context(main, info_name="odin-ws", **main.context_settings)
    context = tail.make_context("tail", words(made["odin-ws tail"])[2:], parent=parent)
    assert context.params["channels"] == choice.get("channels", [])
    assert context.params["bundles"] == choice.get("bundles", [])
    program, option, url = words(made["curl"])
    assert (program, option) == ("curl", "-N")
    query = dict(parse_qsl(urlsplit(url).query))
    catalogue = default_catalogue()
    event_query = subscription_query.read_event_query(
        HandshakeRequest("GET", "/sse", query, {}), catalogue
    )
    sent, shown = json.loads(event_query.command)["data"], choice.keys() - {"snapshot"}
    assert {name: sent[name] for name in shown} == {name: choice[name] for name in shown}
    assert event_query.snapshot is choice.get("snapshot", False)
    _, text, _, websocat, _, address = words(made["websocat"])
    assert (websocat, address) == ("websocat", URL)
    assert json.loads(text) == {"type": "subscribe", "data": choice}
    assert isinstance(decode_command(text, catalogue), Subscribe)


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_python_program_makes_the_subscription(page: dict[str, Any], number: int) -> None:
    """The program is parsed, and its fields are those of the class."""
    tree = ast.parse(page["made"][number]["Python"])
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Subscription"
    )
    given = {
        keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg
    }
    Subscription(**given)
    assert given.items() <= CHOICES[number].items()


def test_snippet_names_the_options_that_its_program_lacks(page: dict[str, Any]) -> None:
    """No option that the program has is left out, so new options fail this test."""
    known = {name: set(fields) for name, fields in page["known"].items()}
    offered = {name for choice in CHOICES for name in choice}
    of_class = {field.name for field in attrs.fields(Subscription)}
    assert known["python"] == offered & of_class
    options = {parameter.name for parameter in tail.params}
    assert known["tail"] == {"since_ms"} | (offered & options)
    assert known["curl"] == offered & set(subscription_query._FIELDS)  # noqa: SLF001
    assert page["made"][2]["odin-ws tail"].endswith("# tail has no option for: delivery")


def test_typed_filters_are_parsed(page: dict[str, Any]) -> None:
    """Comparisons joined by `and`, or JSON; other input gets an explanation."""
    assert page["conditions"] == [condition for _, condition in FILTERS]
