"""The steps of docs/tutorial.md, in Chromium, with a server whose log the test writes."""

from __future__ import annotations

import os
import re
import signal
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import pytest
import trio

from odin_ws.catalogue import default_catalogue
from odin_ws.testing.local_server import LocalServer, open_local_server
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.docs.browser import Page, open_page
from tests.docs.pages import ROOT, blocks, page

# An environment is made and two packages are built in ten seconds on a free machine; the rest is
# for a busy one.
PATIENCE_SECONDS: Final = 380

STEPS = {
    int(found[1]): block.text
    for block in blocks(page("docs/tutorial.md"), "html")
    if (found := re.match(r"<!-- step (\d): index\.html -->\n", block.text)) is not None
}


class QuietHandler(SimpleHTTPRequestHandler):
    """`python3 -m http.server` without its log."""

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a folder as the page says; gives its address."""
    handler = partial(QuietHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(step: int, url: str, directory: Path) -> Iterator[Page]:
    """Open the page of a step, which connects to the server at `url`."""
    text = STEPS[step]
    assert text.count("ws://localhost:3002/ws") == 1
    site = directory / "site"
    site.mkdir()
    (site / "index.html").write_text(text.replace("ws://localhost:3002/ws", url), "utf-8")
    with served(site) as address, open_page(address, directory / "profile") as found:
        yield found


async def wait_for(found: Page, condition: str) -> Any:
    """Wait in a thread, so that the server runs meanwhile."""
    return await trio.to_thread.run_sync(found.wait_for, condition)


def trade(server: LocalServer, price: float) -> None:
    """Publish a trade of BTC, and one of another token."""
    server.publish("ETH", "trade", {"price": 1})
    server.publish("BTC", "trade", {"price": price})


def step_1() -> list[str]:
    """The commands of the first step, in order."""
    text = page("docs/tutorial.md").partition("## 2. ")[0]
    return [
        line.removeprefix("$ ")
        for block in blocks(text, "console")
        for line in block.text.splitlines()
    ]


def environment(project: Path) -> dict[str, str]:
    """Let pip install this checkout's two packages, and nothing from a registry."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(project.parent),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of --build-isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.timeout(400)
async def test_step_1_from_an_empty_folder(tmp_path: Path) -> None:
    """After its commands there is a demo, and `tail` prints three trades of the token.

    Only the ports are others, and the dependencies come from the environment of this test.
    """
    make, install, demo, tail = step_1()
    (tmp_path / "odin-ws").symlink_to(ROOT)
    project = tmp_path / "chart"
    project.mkdir()
    port, ops_port = free_ports(2)
    demo = f"exec {demo} --port {port} --ops-port {ops_port}"
    tail = f"{tail} --url ws://{LOOPBACK}:{port}/ws"
    # A shell, because quotes in the commands are the shell's.
    run = partial(  # noqa: S604 -- the page's own lines
        trio.run_process,
        shell=True,
        cwd=project,
        env=environment(project),
    )
    with trio.fail_after(PATIENCE_SECONDS):
        await run(make)
        (packages,) = project.glob("venv/lib/python3.*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
        await run(install, capture_stdout=True)
        assert (packages / "odin_ws").is_dir()
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(partial(run, demo, stdout=PIPE))
            assert process.stdout is not None
            output = b""
            while b"metrics " not in output:
                output += await process.stdout.receive_some()
            done = await run(tail, capture_stdout=True)
            process.send_signal(signal.SIGINT)
            async for _ in process.stdout:
                pass
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3
    assert all("BTC.trade" in line for line in lines)


def test_there_are_four_steps() -> None:
    """The first step is command lines; each other one is a whole page."""
    assert sorted(STEPS) == [2, 3, 4]
    headings = re.findall(r"(?m)^## (\d)\. ", page("docs/tutorial.md"))
    assert headings == ["1", "2", "3", "4"]


async def test_step_2_shows_messages(odin_server: LocalServer, tmp_path: Path) -> None:
    """The page has the ack, and a line for each trade of the token with the fields it names."""
    with opened(2, odin_server.url, tmp_path) as found:
        await wait_for(found, 'log.textContent.includes("subscription_ack")')
        trade(odin_server, 0.5)
        await wait_for(found, 'log.textContent.includes("0.5")')
        lines = await wait_for(found, 'log.textContent.trim().split("\\n").map(JSON.parse)')
    assert [line["type"] for line in lines] == ["subscription_ack", "message"]
    assert {"seq", "ts", "channel", "pos", "data"} <= lines[1].keys()


async def test_step_3_draws_a_chart(odin_server: LocalServer, tmp_path: Path) -> None:
    """Prices are drawn, and the title has the last one."""
    with opened(3, odin_server.url, tmp_path) as found:
        await wait_for(found, "ws.readyState === 1")
        while not await trio.to_thread.run_sync(found.value, "prices.length"):
            trade(odin_server, 1)  # the subscription may not have begun yet
        for number in range(1, 400):
            trade(odin_server, number)
        await wait_for(found, 'document.title === "BTC 399"')
        assert await wait_for(found, "prices.length") == 300
        drawn = 'chart.getContext("2d").getImageData(0, 0, 900, 300).data.some(Boolean)'
        assert await wait_for(found, drawn)


async def test_step_4_survives_restarts(tmp_path: Path) -> None:
    """The page waits for the server, and after a restart it has each price once, in order."""
    log = MemoryLog(default_catalogue().topics)
    (port,) = free_ports(1)
    with opened(4, f"ws://{LOOPBACK}:{port}/ws", tmp_path) as found:
        async with open_local_server(log=log, port=port) as server:
            await wait_for(found, "Object.keys(positions).length")
            for price in (1, 2, 3):
                trade(server, price)
            await wait_for(found, "prices.length === 3")
        await wait_for(found, 'state.textContent.startsWith("closed")')
        trade(server, 4)
        async with open_local_server(log=log, port=port) as server:
            await wait_for(found, "prices.length === 4")
            trade(server, 5)
            await wait_for(found, 'document.title === "BTC 5"')
        assert await wait_for(found, "prices") == [1, 2, 3, 4, 5]


async def test_step_4_reports_lost_records(tmp_path: Path) -> None:
    """With another log, as after a restart of the demo, the page continues and reports the loss."""
    (port,) = free_ports(1)
    with opened(4, f"ws://{LOOPBACK}:{port}/ws", tmp_path) as found:
        async with open_local_server(port=port) as server:
            await wait_for(found, "Object.keys(positions).length")
            for price in (1, 2, 3):
                trade(server, price)
            await wait_for(found, "prices.length === 3")
        async with open_local_server(port=port) as server:
            await wait_for(found, 'state.textContent.startsWith("lost")')
            trade(server, 4)
            await wait_for(found, 'document.title === "BTC 4"')
