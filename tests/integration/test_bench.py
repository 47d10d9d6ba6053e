"""`odin-ws bench` as a child process, against real brokers and servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.cli.commands import Done, run_command
from tests.integration.servers import serving

# A small load for a busy machine, with each kind of channel.
FEW = ("--connections", "50", "--seconds", "2", "--warmup", "0.5", "--no-pin")


async def run_bench(*words: str) -> tuple[Done, dict[str, Any]]:
    """Run a benchmark to its end; return the process and its figures."""
    done = await run_command("bench", *words, *FEW, "--json", "-")
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return done, figures


async def test_steady(embedded: str, tmp_path: Path) -> None:
    """Every client gets every record, the figures add up, and a plot is drawn."""
    picture = tmp_path / "out.svg"

    done, figures = await run_bench(
        "steady", "--kafka", embedded, "--rate", "50", "--plot", str(picture)
    )

    (run,) = figures["runs"]
    assert done.returncode == 0, done.stderr
    assert run["subscribed"] == 50
    assert set(run["problems"].values()) == {0}
    assert run["published"] * 50 >= run["received"] > 0
    assert 0 < run["latency"]["p50"] <= run["latency"]["p99"] <= run["latency"]["worst"] * 1.01
    assert run["cpu_us"] > 0
    assert run["idle_kb"] > 0
    assert ET.fromstring(picture.read_text()).tag.endswith("svg")  # noqa: S314 -- our own


async def test_storm(embedded: str) -> None:
    """Disconnected clients come back, miss nothing and get nothing twice."""
    done, figures = await run_bench("storm", "--kafka", embedded, "--rate", "20")

    (run,) = figures["runs"]
    assert done.returncode == 0, done.stderr
    assert run["back_seconds"] > 0
    assert set(run["problems"].values()) == {0}


async def test_crowd(embedded: str) -> None:
    """Clients away for longer than the history share scans, and miss nothing."""
    done, figures = await run_bench(
        *("crowd", "--kafka", embedded, "--rate", "50", "--away", "5000"),
        *("--set", "WS_HISTORY_BYTES=200000"),
    )

    (run,) = figures["runs"]
    assert done.returncode == 0, done.stderr
    assert run["back_seconds"] > 0
    assert set(run["problems"].values()) == {0}
    assert run["calm"]["p99"] > 0
    assert 0 < run["scanned"]["scans"] <= 4
    assert 4000 < run["scanned"]["records"] < 4 * 10_000


async def test_tokens(embedded: str) -> None:
    """With many channels and patterns, each connection gets those that it subscribed to."""
    done, figures = await run_bench("tokens", "--kafka", embedded, "--rate", "200")

    (run,) = figures["runs"]
    assert done.returncode == 0, done.stderr
    assert set(run["problems"].values()) == {0}
    assert run["received"] > 0


async def test_running_server_is_measured(embedded: str) -> None:
    """A running server is measured, and its losses are found."""
    async with serving(embedded, WS_MAX_CONNECTIONS="30") as server:
        done, figures = await run_bench(
            *("steady", "--kafka", embedded),
            *("--server", f"ws://127.0.0.1:{server.port}/ws", "--pid", str(server.process.pid)),
            *("--connect-grace", "2"),
        )

    (run,) = figures["runs"]
    assert done.returncode == 1
    assert run["subscribed"] == 30
    assert run["problems"]["never_subscribed"] == 20
    assert run["rejected_connections"]["503"] >= 20
    assert "steady: 20 never subscribed" in done.stderr


async def test_baseline(embedded: str) -> None:
    """The baseline is measured before and after, and the cost of a message compared with it."""
    done = await run_command(
        "bench", "steady", *FEW, "--kafka", embedded, "--rate", "50", "--baseline"
    )

    assert done.returncode == 0, done.stderr
    assert "baseline before" in done.stdout
    assert "CPU against the baseline" in done.stdout


async def test_another_catalogue_is_published_and_delivered(embedded: str) -> None:
    """Records of another domain are published in its formats, and each is delivered."""
    words = ("steady", "--kafka", embedded, "--rate", "50", "--events")
    done, figures = await run_bench(*words, "--catalogue", "examples/sensors.toml")

    (run,) = figures["runs"]
    assert done.returncode == 0, done.stderr
    assert set(run["problems"].values()) == {0}
    assert run["received"] > 0


MISUSES = {
    "a server without a broker": (
        ("--server", "ws://127.0.0.1:1/ws", "--pid", "1"),
        "--server requires --pid, and --kafka",
    ),
    "no WebSocket URL": (("--server", "http://127.0.0.1:1"), "must be ws://HOST:PORT/ws"),
    "a setting without a value": (("--set", "WS_PING_INTERVAL_SECONDS"), "must be NAME=VALUE"),
}


@pytest.mark.parametrize(("words", "text"), MISUSES.values(), ids=MISUSES)
async def test_misuse(words: tuple[str, ...], text: str) -> None:
    """The error names what is allowed."""
    done = await run_command("bench", "steady", *words)

    assert done.returncode == 2
    assert text in done.stderr


async def test_unknown_setting_shows_the_output_of_the_server(embedded: str) -> None:
    """A server that does not start is shown with its output."""
    done = await run_command(
        "bench", "steady", "--kafka", embedded, "--set", "WS_PING_INTERVAL_SECONDS=x"
    )

    assert done.returncode == 1
    assert "WS_PING_INTERVAL_SECONDS=x: must be" in done.stderr
    assert "Traceback" not in done.stderr
