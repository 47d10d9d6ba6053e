"""The conformance cases: their outcomes, and that our clients pass them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

import odin_ws_client.asyncio
from odin_ws.cli import main
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop, trio_as_aio
from odin_ws.testing.conformance import (
    Case,
    Delivery,
    Outcome,
    Requests,
    Result,
    Run,
    difference,
    play_case,
    read_cases,
    run_program,
)
from odin_ws_client import Subscription
from odin_ws_client.core.client import BaseClient
from odin_ws_client.trio import open_client
from tests.client_js.follower import Follower, follow, node_command
from tests.docs.asyncapi import read_asyncapi
from tests.docs.pages import blocks, page

CASES = {case.name: case for case in read_cases()}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

Deliver = Callable[[Delivery], None]


def subscription_of(subscription: Mapping[str, Any]) -> Subscription:
    """Return the subscription without `frames`: our client requests batches by itself."""
    return Subscription(**{name: one for name, one in subscription.items() if name != "frames"})


async def carry_out(client: BaseClient, request: Mapping[str, Any]) -> None:
    """Do what the application asks for."""
    ((kind, names),) = request.items()
    command = client.subscribe if kind == "subscribe" else client.unsubscribe
    response = await command(*names["channels"])
    assert (list(response.names), response.rejected) == (names["channels"], ())


async def follow_in_python(
    url: str, subscription: Mapping[str, Any], deliver: Deliver, requests: Requests
) -> None:
    """Run our client for Trio."""

    async def obey(client: BaseClient) -> None:
        async for request in requests:
            await carry_out(client, request)

    async with (
        trio.open_nursery() as nursery,
        open_client(url, subscription_of(subscription), backoff_base=0.01) as client,
    ):
        nursery.start_soon(obey, client)
        async for message in client.messages():
            deliver(Delivery(message.channel, f"{message.partition}-{message.offset}"))
        nursery.cancel_scope.cancel()


async def follow_in_asyncio(
    url: str, subscription: Mapping[str, Any], deliver: Deliver, requests: Requests
) -> None:
    """Run our client for asyncio."""

    async def obey(client: BaseClient) -> None:
        while True:
            await carry_out(client, await trio_as_aio(requests.receive)())

    async def follow() -> None:
        async with odin_ws_client.asyncio.open_client(
            url, subscription_of(subscription), backoff_base=0.01
        ) as client:
            obeying = asyncio.create_task(obey(client))
            async for message in client.messages():
                deliver(Delivery(message.channel, f"{message.partition}-{message.offset}"))
            obeying.cancel()

    async with open_loop() as loop:
        await aio_as_trio(follow, loop=loop)()


async def follow_in_javascript(
    node: list[str],
    url: str,
    subscription: Mapping[str, Any],
    deliver: Deliver,
    requests: Requests,
) -> None:
    """Run our JavaScript client."""

    async def obey(follower: Follower) -> None:
        async for request in requests:
            await follower.request(request)

    # With a delay: Node 20 never sends a request begun while a rejected handshake ends.
    async with (
        follow(node, url, subscription, random=1, backoff=[100, 100]) as follower,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(obey, follower)
        while (event := await follower.next_event()).item.get("retry_ms", 0) is not None:
            if event.kind == "message":
                deliver(Delivery(event.item["channel"], event.item["pos"]))
            if event.kind == "answer":
                assert "code" not in event.item
        nursery.cancel_scope.cancel()


@each_case
@pytest.mark.parametrize("run", [follow_in_python, follow_in_asyncio], ids=["trio", "asyncio"])
async def test_python_client_conforms(case: Case, run: Run) -> None:
    """It sends what each case expects, and delivers each message once."""
    assert await play_case(case, run) == Outcome(case, Result.OK)


@pytest.mark.processes
@each_case
async def test_javascript_client_conforms(case: Case) -> None:
    """It sends what each case expects, and delivers each message once."""
    run = partial(follow_in_javascript, node_command())
    assert await play_case(case, run) == Outcome(case, Result.OK)


async def test_client_with_wrong_first_command_fails() -> None:
    """The outcome names the field and both values."""

    async def run(
        url: str, _subscription: Mapping[str, Any], _deliver: Deliver, _requests: Requests
    ) -> None:
        positions = {"odin.trades": {0: 6}}
        async with open_client(url, Subscription(["*.trade"]), positions=positions) as client:
            await anext(client.messages())

    outcome = await play_case(CASES["resume"], run)
    assert outcome.why == "the command.type is 'resume', not 'subscribe'"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda some: some[:1],
            "message 2 that the client delivered is missing, not BTC.trade 1-0",
        ),
        (
            lambda some: some[::-1],
            "message 1 that the client delivered is BTC.trade 1-0, not BTC.trade 0-5",
        ),
        (
            lambda some: [*some, some[0]],
            "the client delivered BTC.trade 0-5, one message too many",
        ),
    ],
    ids=["lost", "out of order", "twice"],
)
async def test_client_with_wrong_deliveries_fails(
    change: Callable[[list[Delivery]], list[Delivery]], why: str
) -> None:
    """Its commands are right, but its deliveries are not."""

    async def run(
        url: str, subscription: Mapping[str, Any], deliver: Deliver, requests: Requests
    ) -> None:
        kept: list[Delivery] = []
        await follow_in_python(url, subscription, kept.append, requests)
        for delivery in change(kept):
            deliver(delivery)

    outcome = await play_case(CASES["resume"], run)
    assert outcome.result is Result.FAILED
    assert outcome.why == why


@pytest.mark.processes
async def test_client_without_batches_skips_their_case() -> None:
    """A client need not request batches."""

    async def run(
        url: str, _subscription: Mapping[str, Any], deliver: Deliver, requests: Requests
    ) -> None:
        program = f"{PLAIN}\nasyncio.run(subscribe(sys.argv[1]))"
        await run_program([sys.executable, "-c", program], url, {}, deliver, requests)

    outcome = await play_case(CASES["batches"], run)
    assert outcome.result is Result.SKIPPED
    assert outcome.why == "the client does not ask for batches"


# A client that subscribes and then only prints.
PLAIN = """
import asyncio, json, sys, websockets
async def subscribe(url):
    async with websockets.connect(url) as socket:
        data = {"channels": ["*.trade"], "positions": True}
        await socket.send(json.dumps({"type": "subscribe", "id": 1, "data": data}))
        async for text in socket:
            print(text, flush=True)
"""


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": None}, {"b": 2}, None),
        ({"a": None}, {"a": 2}, "the command.a is not expected"),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 1}}, None),
        ({"a": {"b": 1}}, {"a": 5}, "the command.a is 5, not an object"),
        (
            {"positions": {"t": {"0": 1}}},
            {"positions": {"t": {"0": 1, "1": 1}}},
            "the command.positions is {'t': {'0': 1, '1': 1}}, not {'t': {'0': 1}}",
        ),
    ],
)
def test_difference_compares_fields_of_the_case(
    expected: object, got: object, found: str | None
) -> None:
    """Further fields are allowed, except in positions."""
    assert difference(expected, got) == found


@each_case
def test_cases_are_valid_by_asyncapi(case: Case) -> None:
    """Except for items that clients have to ignore."""
    api = read_asyncapi()
    for step in case.steps:
        if "client" in step and None not in step["client"]["data"].values():
            data = {"channels": ["*.trade"], **step["client"]["data"]}
            assert api.problem(json.dumps(step["client"] | {"data": data}), "receive") is None
        if "server" in step and step["server"]["type"] != "weather":
            assert api.problem(json.dumps(step["server"]), "send", closed=False) is None


@pytest.fixture
def plain(tmp_path: Path) -> list[str]:
    """A program that subscribes and never reconnects."""
    program = tmp_path / "plain.py"
    program.write_text(f"{PLAIN}\nasyncio.run(subscribe(sys.argv[1]))")
    return [sys.executable, str(program)]


@pytest.mark.processes
def test_command_prints_a_line_for_each_case(plain: list[str]) -> None:
    """The line says what the client did; the exit code is 1."""
    options = ["--case", "resume", "--case", "batches", "--step-seconds", "2"]
    done = CliRunner().invoke(main, ["conformance", *options, *plain])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "failed   resume  the client did not connect within 2 s",
        "skipped  batches  the client does not ask for batches",
    ]


@pytest.mark.processes
def test_command_writes_json(plain: list[str]) -> None:
    """The document has the counts and the cases."""
    options = ["--json", "--case", "resume", "--step-seconds", "2"]
    done = CliRunner().invoke(main, ["conformance", *options, *plain])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["ok"], document["failed"], document["skipped"]) == (0, 1, 0)
    assert document["cases"][0]["why"] == "the client did not connect within 2 s"


@pytest.mark.processes
def test_command_passes_our_client() -> None:
    """The program prints its deliveries."""
    driver = str(Path(__file__).with_name("conforming.mjs"))
    names = ["duplicates", "restart", "live-subscribe", "live-unsubscribe"]
    chosen = [word for name in names for word in ("--case", name)]
    options = ["--deliveries", "--live", *chosen]
    done = CliRunner().invoke(main, ["conformance", *options, *node_command(), driver])
    assert (done.exit_code, done.stdout.split()[1::2]) == (0, names)
    done = CliRunner().invoke(main, ["conformance", "--case", "live-subscribe", "true"])
    assert done.stdout == "skipped  live-subscribe  the client is run without --live\n"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "nope", "true"], "--case nope: must be one of resume, unknown, "),
        (["/nowhere/client"], "/nowhere/client: No such file or directory"),
        ([], "COMMAND is missing: the command line "),
    ],
)
def test_command_with_invalid_arguments_names_them(arguments: list[str], message: str) -> None:
    """In one line."""
    done = CliRunner().invoke(main, ["conformance", *arguments])
    assert done.exit_code != 0
    assert message in done.stderr


def test_command_lists_the_cases() -> None:
    """Each line begins with the name of a case."""
    done = CliRunner().invoke(main, ["conformance", "--list"])
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(CASES)


@pytest.mark.processes
async def test_example_of_own_client_page_conforms(tmp_path: Path) -> None:
    """The client of docs/own-client.md passes all cases."""
    program = tmp_path / "own_client.py"
    (example,) = blocks(page("docs/own-client.md"), "python")
    program.write_text(example.text)
    command = [sys.executable, str(program)]
    for case in CASES.values():
        if case.is_live:  # the page says that a client need not do that
            continue
        assert await play_case(case, partial(run_program, command)) == Outcome(case, Result.OK)
