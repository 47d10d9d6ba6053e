"""The conformance transcripts: what they find, and that our clients do what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from odin_ws.client import Subscription, open_client
from odin_ws.testing.conformance import Case, difference, main, play_case, read_cases
from tests.client_js.following import follow, node_command
from tests.docs.asyncapi import read_asyncapi

CASES = {case.name: case for case in read_cases()}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


async def follow_in_python(url: str, subscription: Mapping[str, Any]) -> None:
    """Our client for Trio."""
    async with open_client(url, Subscription(**subscription), backoff_base=0.01) as client:
        async for _ in client:
            pass


async def follow_in_javascript(node: list[str], url: str, subscription: Mapping[str, Any]) -> None:
    """Our client for browsers."""
    async with follow(node, url, subscription) as follower:
        while (await follower.said()).item.get("retry_ms", 0) is not None:
            pass


@each_case
async def test_the_python_client_conforms(case: Case) -> None:
    """It sends what each transcript expects."""
    assert await play_case(case, follow_in_python) is None


@each_case
async def test_the_javascript_client_conforms(case: Case) -> None:
    """So does the browser's."""
    run = partial(follow_in_javascript, node_command())
    assert await play_case(case, run) is None


async def test_a_client_that_keeps_wrong_positions_is_found() -> None:
    """The transcript names the field and both values."""

    async def run(url: str, _subscription: Mapping[str, Any]) -> None:
        positions = {"odin.trades": {0: 6}}
        async with open_client(url, Subscription(["*.trade"]), positions=positions) as client:
            await anext(client.messages())

    wrong = await play_case(CASES["resume"], run)
    assert wrong == "the command.type is 'resume', not 'subscribe'"


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": None}, {"b": 2}, None),
        ({"a": None}, {"a": 2}, "the command.a is not expected"),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 1}}, None),
        ({"a": {"b": 1}}, {"a": 5}, "the command.a is 5, no object"),
        (
            {"positions": {"t": {"0": 1}}},
            {"positions": {"t": {"0": 1, "1": 1}}},
            "the command.positions is {'t': {'0': 1, '1': 1}}, not {'t': {'0': 1}}",
        ),
    ],
)
def test_what_is_compared(expected: object, got: object, found: str | None) -> None:
    """What the transcript names; positions as a whole."""
    assert difference(expected, got) == found


@each_case
def test_transcripts_are_of_this_protocol(case: Case) -> None:
    """What is played is as docs/asyncapi.yaml says, but for what clients have to ignore."""
    api = read_asyncapi()
    for step in case.steps:
        if "client" in step and None not in step["client"]["data"].values():
            data = {"channels": ["*.trade"], **step["client"]["data"]}
            assert api.problem(json.dumps(step["client"] | {"data": data}), "receive") is None
        if "server" in step and step["server"]["type"] != "weather":
            assert api.problem(json.dumps(step["server"]), "send", closed=False) is None


def test_the_command_tells_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """With the case's sentence and what the client did; and ends with 1."""
    program = "import sys; print(sys.argv)"
    options = ["--case", "resume", sys.executable, "-c", program]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("odin_ws.testing.conformance._STEP_SECONDS", 0.5)
        assert main(options) == 1
    assert "FAILED  resume" in capsys.readouterr().out
