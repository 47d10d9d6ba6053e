"""`odin-ws tail` against a server on a real port that reads a log in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio

from odin_ws.address import Address
from odin_ws.catalogue import default_catalogue
from odin_ws.cli import subscriber
from odin_ws.cli.running import CommandFailed
from odin_ws.cli.subscriber import open_subscriber
from odin_ws.service import Addresses, serve
from odin_ws.settings import Settings
from odin_ws.source.memory import MemoryLog, MemorySource
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.cli.commands import ODIN_WS, Command, run_command, started

ANY_PORT = Address(LOOPBACK, 0)
VALUE = b'{"type":"TRADE_EXECUTED","timestamp":1,\n"data":{"price":0.5,"side":"\\u001b[2J"}}'


@attrs.frozen
class Server:
    """A running server: what it reads, where it is, and how to stop it."""

    log: MemoryLog
    addresses: Addresses
    stop: trio.Event

    @property
    def url(self) -> str:
        """Where subscribers connect."""
        return f"ws://{self.addresses.subscribers}/ws"

    def trade(self, token: str = "BTC") -> None:  # noqa: S107 -- no password
        """Publish a trade."""
        self.log.append("odin.trades", token.encode(), VALUE)

    @asynccontextmanager
    async def tail(self, *words: str) -> AsyncIterator[Command]:
        """Follow this server; the block begins when the subscription has taken effect."""
        async with started([ODIN_WS, "tail", "--url", self.url, *words]) as command:
            await command.says("subscribed at")
            yield command


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """Run one for the length of the block."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    settings = Settings(ws_addr=ANY_PORT, ws_ops_addr=ANY_PORT, ws_drain_delay=0)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve, settings, catalogue, MemorySource(log), stop)
        yield Server(log, addresses, stop)
        nursery.cancel_scope.cancel()


async def test_a_message_is_a_line() -> None:
    """Without names it follows everything; a line has channel, event type and data."""
    async with server() as here, here.tail("--count", "2") as tail:
        here.trade("BTC")
        here.trade("a.b")
        done = await tail.ended()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert {line.split()[1] for line in lines} == {"BTC.trade", "a.b.trade"}
    for line in lines:
        assert line.isprintable()
        assert line.endswith(r"TRADE_EXECUTED         price=0.5  side=\x1b[2J")
    assert "2 messages" in done.stderr


async def test_json_is_one_message_a_line() -> None:
    """With --json the messages come as they are, and line breaks in a value do not break them."""
    async with server() as here, here.tail("--json", "--count", "2", "--tokens", "BTC") as tail:
        for token in ("BTC", "ODIN", "BTC"):
            here.trade(token)
        done = await tail.ended()
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["seq"] for message in messages] == [1, 2]
    assert all(message["channel"] == "BTC.trade" for message in messages)
    assert all(message["data"] == json.loads(VALUE) for message in messages)


async def test_rejected_names_are_said() -> None:
    """Names that do not take effect are reported with the reason; the others are followed."""
    names = ("--channels", "BTC.trade, BTC.trad", "--bundles", "NONE", "--topics", "odin.balances")
    async with server() as here, here.tail(*names, "--count", "1") as tail:
        here.trade()
        done = await tail.ended()
    assert done.returncode == 0
    rejected = [line for line in done.stderr.splitlines() if line.startswith("rejected: ")]
    assert len(rejected) == 2
    assert "BTC.trad:" in rejected[0]
    assert "UNKNOWN_BUNDLE" in rejected[1]
    assert "BTC.trade, odin.balances" in done.stderr


async def test_nothing_to_follow_is_a_failure() -> None:
    """Where every name is rejected it ends with 1."""
    async with server() as here:
        done = await run_command("tail", "--url", here.url, "--channels", "nope")
    assert done.returncode == 1
    assert "rejected: nope" in done.stderr
    assert "every name" in done.stderr


async def test_too_few_messages_are_a_failure() -> None:
    """When the time is over before the count is reached it ends with 1 and says so."""
    async with server() as here, here.tail("--count", "2", "--seconds", "0.5") as tail:
        here.trade()
        done = await tail.ended()
    assert done.returncode == 1
    assert "fewer than 2" in done.stderr


async def test_time_over_is_no_failure() -> None:
    """Without a count the end of the time is a good end."""
    async with server() as here, here.tail("--seconds", "0.1") as tail:
        assert (await tail.ended()).returncode == 0


async def test_ctrl_c_ends_it() -> None:
    """An interrupt is the usual way to end it: status 0, no traceback."""
    async with server() as here, here.tail() as tail:
        tail.interrupt()
        done = await tail.ended()
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "0 messages"


async def test_the_server_says_why_it_closes() -> None:
    """When the server drains, its code and reason are said, and the status is 1."""
    async with server() as here, here.tail() as tail:
        here.stop.set()
        done = await tail.ended()
    assert done.returncode == 1
    assert "closed by the server: 1012 the server is restarting" in done.stderr


async def test_a_reader_that_has_had_enough_ends_it() -> None:
    """When its output is closed it ends at the next message, quietly."""
    async with server() as here, here.tail("--json") as tail:
        here.trade()
        await tail.says('"seq":1', on="out")
        await tail.hang_up()
        here.trade()
        done = await tail.ended()
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1


async def test_a_wrong_address_is_said() -> None:
    """Where no WebSocket can be had it ends with 1 and one line about why."""
    (nobody,) = free_ports(1)
    async with server() as here:
        whys = {
            f"ws://{LOOPBACK}:{nobody}/ws": "refused",
            f"ws://{here.addresses.subscribers}/elsewhere": "404",
            f"ws://{here.addresses.ops}/health": "403",
            f"wss://{here.addresses.subscribers}/ws": "SSL",
            "http://localhost/ws": "ws://host:port/path",
            "ws://localhost:port/ws": "port",
        }
        for url, why in whys.items():
            done = await run_command("tail", "--url", url)
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"odin-ws: {url}: ")
            assert why.lower() in line.removeprefix(f"odin-ws: {url}").lower()


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing is not waited for for ever."""
    monkeypatch.setattr(subscriber, "_CONNECT_SECONDS", 0.1)
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, _say_nothing, 0, host=LOOPBACK)
        (listener,) = await nursery.start(serving)
        port = listener.socket.getsockname()[1]
        with (
            trio.fail_after(10),
            pytest.RaisesGroup(
                pytest.RaisesExc(CommandFailed, match="no answer"), flatten_subgroups=True
            ),
        ):
            async with open_subscriber(f"ws://{LOOPBACK}:{port}/ws"):
                pytest.fail("it connected")
        nursery.cancel_scope.cancel()


async def _say_nothing(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()
