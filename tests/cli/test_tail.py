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
    """A running server with its log, its address and a stop."""

    log: MemoryLog
    addresses: Addresses
    stop: trio.Event

    @property
    def url(self) -> str:
        """The URL for subscribers."""
        return f"ws://{self.addresses.subscribers}/ws"

    def trade(self, token: str = "BTC", age: float = 0) -> None:  # noqa: S107 -- no password
        """Publish a trade with a timestamp `age` seconds ago."""
        timestamp = int((time.time() - age) * 1000)
        self.log.append("odin.trades", token.encode(), VALUE, timestamp=timestamp)

    @asynccontextmanager
    async def tail(self, *words: str, **environment: str) -> AsyncIterator[Command]:
        """Run `odin-ws tail` on this server; the block starts after the subscription_ack."""
        command_line = [ODIN_WS, "tail", "--url", self.url, *words]
        async with started(command_line, **environment) as command:
            await command.says("subscribed at")
            yield command


@asynccontextmanager
async def server(
    *, log: MemoryLog | None = None, address: Address = ANY_PORT, **options: Any
) -> AsyncIterator[Server]:
    """Run a server for the length of the block."""
    catalogue = default_catalogue()
    log = log or MemoryLog(catalogue.topics)
    upstream = Upstream(MemorySource(log), MemoryLogReader(log))
    settings = Settings(ws_addr=address, ws_ops_addr=ANY_PORT, ws_drain_delay_seconds=0, **options)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve, settings, catalogue, upstream, stop)
        yield Server(log, addresses, stop)
        nursery.cancel_scope.cancel()


async def test_message_is_one_line() -> None:
    """Without names it subscribes to everything; a line has channel, event type and data."""
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


async def test_json_is_one_message_per_line() -> None:
    """--json prints messages as received; line breaks in a value are replaced."""
    async with server() as here, here.tail("--json", "--count", "2", "--tokens", "BTC") as tail:
        for token in ("BTC", "ODIN", "BTC"):
            here.trade(token)
        done = await tail.ended()
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["seq"] for message in messages] == [1, 2]
    assert all(message["channel"] == "BTC.trade" for message in messages)
    assert all(message["data"] == json.loads(VALUE) for message in messages)


async def test_rejected_names_are_reported() -> None:
    """Rejected names are printed with their reason; the others are subscribed."""
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


async def test_all_names_rejected_exits_with_status_1() -> None:
    """Without a subscription the command ends."""
    async with server() as here:
        done = await run_command("tail", "--url", here.url, "--channels", "nope")
    assert done.returncode == 1
    assert "rejected: nope" in done.stderr
    assert "every name" in done.stderr


async def test_seconds_over_before_count_exits_with_status_1() -> None:
    """The error has the count and the time."""
    async with server() as here, here.tail("--count", "2", "--seconds", "1") as tail:
        here.trade()
        done = await tail.ended()
    assert done.returncode == 1
    assert "fewer than 2" in done.stderr


async def test_seconds_over_without_count_exits_with_status_0() -> None:
    """The end of the time is the expected end."""
    async with server() as here, here.tail("--seconds", "0.1") as tail:
        assert (await tail.ended()).returncode == 0


async def test_interrupt_exits_with_status_0() -> None:
    """Ctrl-C is the usual end: status 0, no traceback."""
    async with server() as here, here.tail() as tail:
        tail.interrupt()
        done = await tail.ended()
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "0 messages"


async def test_no_reconnect_prints_close_code_and_reason() -> None:
    """The close ends the command with status 1."""
    async with server() as here, here.tail("--no-reconnect") as tail:
        here.stop.set()
        done = await tail.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "disconnected: 1012 the server is restarting",
        "0 messages",
    ]


async def test_server_restart_is_resumed_without_gap() -> None:
    """The command reconnects after the restart and prints that."""
    async with server() as here, here.tail("--count", "2", "--json") as tail:
        here.trade()
        await tail.says('"seq":1', on="out")
        here.stop.set()
        await tail.says("disconnected: 1012 the server is restarting; retrying in ")
        here.trade()
        async with server(log=here.log, address=here.addresses.subscribers):
            done = await tail.ended()
    assert done.returncode == 0
    assert [json.loads(line)["pos"] for line in done.stdout.splitlines()] == ["2-0", "2-1"]
    assert re.search(r"^resumed after [0-9.]+ s, 1 messages behind$", done.stderr, re.MULTILINE)


async def test_lost_records_are_reported() -> None:
    """The line has topic, partition, offsets and reason; later messages follow."""
    async with server() as here, here.tail("--count", "2") as tail:
        here.trade()
        await tail.says("BTC.trade", on="out")
        here.stop.set()
        await tail.says("retrying")
        for _ in range(3):
            here.trade()
        here.log.delete_before("odin.trades", 2, 3)
        async with server(log=here.log, address=here.addresses.subscribers):
            done = await tail.ended()
    assert done.returncode == 0
    assert "lost: odin.trades 2, offsets 1 to 2 (expired)" in done.stderr


async def test_since_starts_with_older_messages() -> None:
    """Messages of the time since then come first."""
    log = MemoryLog(default_catalogue().topics)
    before = Server(log, NOWHERE, trio.Event())
    before.trade("OLD", age=3600)
    before.trade("BTC", age=60)
    async with server(log=log) as here, here.tail("--since", "10m", "--count", "2") as tail:
        here.trade("NEW")
        done = await tail.ended()
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["BTC.trade", "NEW.trade"]


async def test_where_and_max_rate_are_part_of_the_subscription() -> None:
    """Only what meets the condition is printed; what is none is an error of the command."""
    where = json.dumps({"field": "data.price", "lt": 0.5})
    options = ("--where", where, "--max-rate", "20", "--count", "1", "--json")
    async with server() as here, here.tail(*options) as tail:
        here.trade()
        here.log.append("odin.trades", b"BTC", b'{"data":{"price":"0.25"}}')
        done = await tail.ended()
    assert json.loads(done.stdout)["data"]["data"]["price"] == "0.25"
    for option, text in (("--where", "[]"), ("--where", "{"), ("--max-rate", "21")):
        assert (await run_command("tail", option, text)).returncode == 2


async def test_invalid_since_exits_with_status_2() -> None:
    """The error names the allowed formats."""
    done = await run_command("tail", "--since", "yesterday")
    assert done.returncode == 2
    assert "90s, 10m, 1h, 2d" in done.stderr


async def test_connect_is_retried_until_server_starts() -> None:
    """The command waits for a server that is not running yet."""
    (port,) = free_ports(1)
    address = Address(LOOPBACK, port)
    words = [ODIN_WS, "tail", "--url", f"ws://{address}/ws", "--count", "1"]
    async with started(words) as tail:
        await tail.says("retrying in")
        async with server(address=address) as here:
            await tail.says("subscribed at")
            here.trade()
            done = await tail.ended()
    assert done.returncode == 0


async def test_no_connection_within_seconds_exits_with_status_1() -> None:
    """The error says that there was no connection."""
    (nobody,) = free_ports(1)
    done = await run_command("tail", "--url", f"ws://{LOOPBACK}:{nobody}/ws", "--seconds", "0.5")
    assert done.returncode == 1
    assert "no connection within 0.5 s" in done.stderr


async def test_closed_output_ends_command_at_next_message() -> None:
    """The command ends without an error line."""
    async with server() as here, here.tail("--json") as tail:
        here.trade()
        await tail.says('"seq":1', on="out")
        await tail.hang_up()
        here.trade()
        done = await tail.ended()
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_full_disk_exits_with_status_1_and_one_line(words: tuple[str, ...]) -> None:
    """The first message that cannot be written ends the command, without a traceback."""
    async with server() as here:
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
            command_line = [ODIN_WS, "tail", "--url", here.url, *words]
            async with started(command_line, {"stdout": full}) as tail:
                await tail.says("subscribed at")
                here.trade()
                done = await tail.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["odin-ws: standard output: No space left on device"]


async def test_unwritable_stderr_does_not_stop_messages() -> None:
    """Only the lines of stderr are lost."""
    async with server() as here:
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
            command_line = [ODIN_WS, "tail", "--url", here.url, "--count", "1", "--since", "1h"]
            here.trade()
            async with started(command_line, {"stderr": full}) as tail:
                done = await tail.ended()
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


async def test_url_without_a_server_exits_with_status_1() -> None:
    """One line has the reason; a URL that is none is an invalid option, with status 2."""
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
            invalid = why in {"ws://host:port/path", "port"}
            assert done.returncode == (2 if invalid else 1)
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"odin-ws: {'--url ' if invalid else ''}{url}: ")
            assert why.lower() in line.partition(url)[2].lower()


async def test_token_of_environment_is_sent() -> None:
    """An empty ODIN_WS_TOKEN is no token."""
    token = issuer("HS256").token(channels=["*.*"])
    async with server(**JWT) as here:
        async with here.tail("--count", "1", ODIN_WS_TOKEN=token) as tail:
            here.trade()
            assert (await tail.ended()).returncode == 0
        rejected = await run_command("tail", "--url", here.url, ODIN_WS_TOKEN="")
    assert rejected.returncode == 1
    assert "rejected with 401" in rejected.stderr


@pytest.mark.parametrize("bad", ["sesame", "open sesame"])
async def test_invalid_token_of_environment_exits_with_status_1(bad: str) -> None:
    """A retry would send the same token; the error does not contain it."""
    async with server(**JWT) as here:
        done = await run_command("tail", "--url", here.url, ODIN_WS_TOKEN=bad)
    assert done.returncode == 1
    assert "token" in done.stderr
    assert "sesame" not in done.stderr


@pytest.mark.parametrize("by", ["option", "environment"])
async def test_token_file_is_read_for_each_connection(tmp_path: Path, by: str) -> None:
    """A missing file or an invalid token is retried: the file may change."""
    file = tmp_path / "token"
    words = ["--token-file", str(file)] if by == "option" else []
    named = {"ODIN_WS_TOKEN_FILE": str(file)} if by == "environment" else {}
    async with server(**JWT) as here:
        line = [ODIN_WS, "tail", "--url", here.url, "--count", "1", *words]
        async with started(line, **named) as tail:
            await tail.says("token: cannot be read: No such file")
            file.write_text("sesame\n")
            await tail.says("rejected with 401: the token is not valid; retrying")
            file.write_text(issuer("HS256").token(channels=["*.*"]) + "\n")
            await tail.says("subscribed at")
            here.trade()
            done = await tail.ended()
    assert done.returncode == 0
    assert "sesame" not in done.stderr


async def test_token_in_environment_and_file_exits_with_status_2(tmp_path: Path) -> None:
    """No order of precedence has to be known."""
    file = str(tmp_path / "token")
    done = await run_command("tail", "--token-file", file, ODIN_WS_TOKEN="sesame")  # noqa: S106
    assert done.returncode == 2
    assert "only one of them" in done.stderr
    assert "sesame" not in done.stderr


async def test_help_names_sources_of_token() -> None:
    """The help also says why there is no option for the token."""
    shown = " ".join((await run_command("tail", "--help")).stdout.split())
    for words in ("ODIN_WS_TOKEN,", "ODIN_WS_TOKEN_FILE", "--token-file", "list of processes"):
        assert words in shown


async def test_names_not_granted_by_new_token_are_reported(tmp_path: Path) -> None:
    """The other names stay subscribed."""
    file = tmp_path / "token"
    file.write_text(issuer("HS256").token(20, channels=["*.trade", "*.balances"]))
    names = ("--channels", "*.trade,*.balances", "--token-file", str(file))
    async with server(**JWT) as here, here.tail(*names, "--count", "1") as tail:
        file.write_text(issuer("HS256").token(channels=["*.trade"]))
        await tail.says("unsubscribed, not granted by the new token: *.balances")
        here.trade()
        assert (await tail.ended()).returncode == 0
