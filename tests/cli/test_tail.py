"""`odin-ws tail` against a server on a real port that reads a log in memory."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from odin_ws.address import Address
from odin_ws.assembly import Upstream
from odin_ws.catalogue import default_catalogue
from odin_ws.serve import Addresses, serve
from odin_ws.settings import Secret, Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.cli.commands import ODIN_WS, Command, run_command, started
from tests.jwt_issuer import SECRET, issuer

ANY_PORT = Address(LOOPBACK, 0)
JWT: Final[dict[str, Any]] = {"ws_auth": "jwt", "ws_jwt_secret": Secret(SECRET)}
NOWHERE = Addresses(ANY_PORT, ANY_PORT)
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

    def trade(self, token: str = "BTC", age: float = 0) -> None:  # noqa: S107 -- no password
        """Publish a trade; `age`: so many seconds ago."""
        timestamp = int((time.time() - age) * 1000)
        self.log.append("odin.trades", token.encode(), VALUE, timestamp=timestamp)

    @asynccontextmanager
    async def tail(self, *words: str, **environment: str) -> AsyncIterator[Command]:
        """Follow this server; the block begins when the subscription has taken effect."""
        command_line = [ODIN_WS, "tail", "--url", self.url, *words]
        async with started(command_line, **environment) as command:
            await command.says("subscribed at")
            yield command


@asynccontextmanager
async def server(
    *, log: MemoryLog | None = None, address: Address = ANY_PORT, **options: Any
) -> AsyncIterator[Server]:
    """Run one for the length of the block."""
    catalogue = default_catalogue()
    log = log or MemoryLog(catalogue.topics)
    upstream = Upstream(MemorySource(log), MemoryLogReader(log))
    settings = Settings(ws_addr=address, ws_ops_addr=ANY_PORT, ws_drain_delay_seconds=0, **options)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve, settings, catalogue, upstream, stop)
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
    async with server() as here, here.tail("--count", "2", "--seconds", "1") as tail:
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
    """With --no-reconnect the end of the connection is said with code and reason, status 1."""
    async with server() as here, here.tail("--no-reconnect") as tail:
        here.stop.set()
        done = await tail.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "disconnected: 1012 the server is restarting",
        "0 messages",
    ]


async def test_it_comes_back_and_misses_nothing() -> None:
    """After the server's restart it goes on where it was, and says what happened."""
    async with server() as here, here.tail("--count", "2", "--json") as tail:
        here.trade()
        await tail.says('"seq":1', on="out")
        here.stop.set()
        await tail.says("disconnected: 1012 the server is restarting; trying again in ")
        here.trade()
        async with server(log=here.log, address=here.addresses.subscribers):
            done = await tail.ended()
    assert done.returncode == 0
    assert [json.loads(line)["pos"] for line in done.stdout.splitlines()] == ["2-0", "2-1"]
    assert re.search(r"^resumed after [0-9.]+ s, 1 messages behind$", done.stderr, re.MULTILINE)


async def test_what_is_lost_is_said() -> None:
    """With topic, partition, offsets and the reason; the rest is there."""
    async with server() as here, here.tail("--count", "2") as tail:
        here.trade()
        await tail.says("BTC.trade", on="out")
        here.stop.set()
        await tail.says("trying again")
        for _ in range(3):
            here.trade()
        here.log.delete_before("odin.trades", 2, 3)
        async with server(log=here.log, address=here.addresses.subscribers):
            done = await tail.ended()
    assert done.returncode == 0
    assert "lost: odin.trades 2, offsets 1 to 2 (expired)" in done.stderr


async def test_it_begins_in_the_past() -> None:
    """With --since what is as old as that comes first."""
    log = MemoryLog(default_catalogue().topics)
    before = Server(log, NOWHERE, trio.Event())
    before.trade("OLD", age=3600)
    before.trade("BTC", age=60)
    async with server(log=log) as here, here.tail("--since", "10m", "--count", "2") as tail:
        here.trade("NEW")
        done = await tail.ended()
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["BTC.trade", "NEW.trade"]


async def test_a_wrong_time_is_said() -> None:
    """What is neither an age nor a time ends it with what is allowed."""
    done = await run_command("tail", "--since", "yesterday")
    assert done.returncode == 2
    assert "90s, 10m, 1h, 2d" in done.stderr


async def test_it_waits_for_a_server() -> None:
    """One that is not there yet is tried again."""
    (port,) = free_ports(1)
    address = Address(LOOPBACK, port)
    words = [ODIN_WS, "tail", "--url", f"ws://{address}/ws", "--count", "1"]
    async with started(words) as tail:
        await tail.says("trying again in")
        async with server(address=address) as here:
            await tail.says("subscribed at")
            here.trade()
            done = await tail.ended()
    assert done.returncode == 0


async def test_no_server_for_long_is_a_failure() -> None:
    """Where --seconds are over before there was a connection it ends with 1."""
    (nobody,) = free_ports(1)
    done = await run_command("tail", "--url", f"ws://{LOOPBACK}:{nobody}/ws", "--seconds", "0.5")
    assert done.returncode == 1
    assert "no connection within 0.5 s" in done.stderr


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


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_full_disk_ends_it_with_one_line(words: tuple[str, ...]) -> None:
    """At the first message that cannot be written: status 1, what and why, and no traceback."""
    async with server() as here:
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
            command_line = [ODIN_WS, "tail", "--url", here.url, *words]
            async with started(command_line, {"stdout": full}) as tail:
                await tail.says("subscribed at")
                here.trade()
                done = await tail.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["odin-ws: standard output: No space left on device"]


async def test_stderr_on_a_full_disk_does_not_stop_the_messages() -> None:
    """What it says besides is lost, and nothing else."""
    async with server() as here:
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
            command_line = [ODIN_WS, "tail", "--url", here.url, "--count", "1", "--since", "1h"]
            here.trade()
            async with started(command_line, {"stderr": full}) as tail:
                done = await tail.ended()
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


async def test_a_wrong_address_is_said() -> None:
    """Where no WebSocket can be had it ends with 1 and one line about why."""
    (nobody,) = free_ports(1)
    async with server() as here:
        whys = {
            f"ws://{LOOPBACK}:{nobody}/ws": "refused",
            f"ws://{here.addresses.subscribers}/elsewhere": "404",
            f"ws://{here.addresses.ops}/health": "200",
            f"wss://{here.addresses.subscribers}/ws": "SSL",
            "http://localhost/ws": "ws://host:port/path",
            "ws://localhost:port/ws": "port",
        }
        for url, why in whys.items():
            done = await run_command("tail", "--no-reconnect", "--url", url)
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"odin-ws: {url}: ")
            assert why.lower() in line.removeprefix(f"odin-ws: {url}").lower()


async def test_the_token_of_the_environment() -> None:
    """It is sent, and an empty one is none."""
    token = issuer("HS256").token(channels=["*.*"])
    async with server(**JWT) as here:
        async with here.tail("--count", "1", ODIN_WS_TOKEN=token) as tail:
            here.trade()
            assert (await tail.ended()).returncode == 0
        rejected = await run_command("tail", "--url", here.url, ODIN_WS_TOKEN="")
    assert rejected.returncode == 1
    assert "rejected with 401" in rejected.stderr


@pytest.mark.parametrize("bad", ["sesame", "open sesame"])
async def test_a_token_that_is_no_good_is_said_and_not_shown(bad: str) -> None:
    """It ends with 1: the environment does not change any more."""
    async with server(**JWT) as here:
        done = await run_command("tail", "--url", here.url, ODIN_WS_TOKEN=bad)
    assert done.returncode == 1
    assert "token" in done.stderr
    assert "sesame" not in done.stderr


@pytest.mark.parametrize("by", ["option", "environment"])
async def test_the_token_of_a_file(tmp_path: Path, by: str) -> None:
    """It is read for each connection: a token that is no good yet, or no file, may become one."""
    file = tmp_path / "token"
    words = ["--token-file", str(file)] if by == "option" else []
    named = {"ODIN_WS_TOKEN_FILE": str(file)} if by == "environment" else {}
    async with server(**JWT) as here:
        line = [ODIN_WS, "tail", "--url", here.url, "--count", "1", *words]
        async with started(line, **named) as tail:
            await tail.says("token: cannot be read: No such file")
            file.write_text("sesame\n")
            await tail.says("rejected with 401: the token is not valid; trying again")
            file.write_text(issuer("HS256").token(channels=["*.*"]) + "\n")
            await tail.says("subscribed at")
            here.trade()
            done = await tail.ended()
    assert done.returncode == 0
    assert "sesame" not in done.stderr


async def test_a_token_in_two_places_is_one_too_many(tmp_path: Path) -> None:
    """Nobody has to know which one comes first."""
    file = str(tmp_path / "token")
    done = await run_command("tail", "--token-file", file, ODIN_WS_TOKEN="sesame")  # noqa: S106
    assert done.returncode == 2
    assert "only one of them" in done.stderr
    assert "sesame" not in done.stderr


async def test_help_says_where_the_token_comes_from() -> None:
    """And why not from the command line."""
    told = " ".join((await run_command("tail", "--help")).stdout.split())
    for words in ("ODIN_WS_TOKEN,", "ODIN_WS_TOKEN_FILE", "--token-file", "list of processes"):
        assert words in told


async def test_what_a_new_token_takes_away_is_said(tmp_path: Path) -> None:
    """The others are followed on."""
    file = tmp_path / "token"
    file.write_text(issuer("HS256").token(20, channels=["*.trade", "*.balances"]))
    names = ("--channels", "*.trade,*.balances", "--token-file", str(file))
    async with server(**JWT) as here, here.tail(*names, "--count", "1") as tail:
        file.write_text(issuer("HS256").token(channels=["*.trade"]))
        await tail.says("not granted by the new token, nothing comes of: *.balances")
        here.trade()
        assert (await tail.ended()).returncode == 0
