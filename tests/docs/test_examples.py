"""Examples in the docs, run as a reader would run them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import trio

from odin_ws.address import Address
from odin_ws.assembly import Upstream
from odin_ws.auth.claims import read_claims
from odin_ws.auth.policy import load_policy
from odin_ws.catalogue import default_catalogue, load_catalogue
from odin_ws.serve import serve
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.docs.pages import ROOT, blocks, page

# Interval of records in the topic of the README's subscriber, and the time-out of its test.
PUBLISH_SECONDS = 0.1
PATIENCE_SECONDS = 100

# Pages whose commands only read the files of the same page.
TRANSCRIBED = ("docs/settings.md", "docs/catalogue.md")

# The file name in the first line of a block.
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")


def transcripts(name: str) -> list[tuple[str, str]]:
    """The commands that a page shows, each with its output."""
    found = []
    for block in blocks(page(name), "console"):
        for word in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, output = word.partition("\n")
            found.append((command, output))
    return found


def write_files(name: str, directory: Path) -> list[Path]:
    """Write the files that a page shows; each begins with a comment that names it."""
    written = []
    for language in ("toml", "python"):
        for block in blocks(page(name), language):
            if (named := FILE.match(block.text)) is not None:
                path = directory / named[1]
                path.write_text(block.text, "utf-8")
                written.append(path)
    return written


def test_project_of_the_testing_page_passes(tmp_path: Path) -> None:
    """The files of docs/testing.md are a project whose tests pass, without a conftest.py."""
    files = write_files("docs/testing.md", tmp_path)
    assert [path.name for path in files] == ["pyproject.toml", "test_trades.py", "test_faults.py"]
    tests = sum(path.read_text("utf-8").count("async def test_") for path in files)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout


@pytest.mark.parametrize(
    ("command", "output"),
    [
        pytest.param(*transcript, id=transcript[0])
        for name in TRANSCRIBED
        for transcript in transcripts(name)
    ],
)
def test_commands_print_what_pages_show(command: str, output: str, tmp_path: Path) -> None:
    """Commands print what these pages show; a line of … stands for any lines."""
    for name in TRANSCRIBED:
        write_files(name, tmp_path)
    # Without settings of this machine, and with odin-ws from the environment that runs the tests.
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}"}
    words = shlex.split(command)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    done = subprocess.run(  # noqa: S602 -- a shell finds odin-ws on the PATH, as the reader's does
        shlex.join(words),
        shell=True,
        cwd=tmp_path,
        env=environment,
        stdout=PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert matches(output, done.stdout), f"{command} prints:\n{done.stdout}"


def test_catalogues_of_the_settings_page_are_accepted(tmp_path: Path) -> None:
    """The server accepts the catalogues that docs/settings.md shows."""
    weather, connect, _misspelt, _avro = write_files("docs/settings.md", tmp_path)
    catalogue = load_catalogue(weather.read_text("utf-8"))
    assert catalogue.expand_channel("Oslo.EVERYTHING") == ("Oslo.measurement", "Oslo.warning")
    other = load_catalogue(connect.read_text("utf-8"))
    assert [topic.key for topic in other.topics.values()] == ["json", "confluent"]


def test_catalogue_page_shows_the_examples(tmp_path: Path) -> None:
    """docs/catalogue.md shows both files of examples/ unchanged."""
    scores, sensors, wrong = sorted(
        (path for path in write_files("docs/catalogue.md", tmp_path)), key=lambda path: path.name
    )
    for path in (scores, sensors):
        shown = path.read_text("utf-8").partition("\n")[2]
        assert shown == (ROOT / "examples" / path.name).read_text("utf-8")
    assert wrong.name == "wrong.toml"


def test_policy_of_the_auth_page_restricts_balances(tmp_path: Path) -> None:
    """docs/auth.md shows compose/policy.toml, and the policy does what its comments say."""
    (file,) = write_files("docs/auth.md", tmp_path)
    text = file.read_text("utf-8")
    assert text == (ROOT / "compose" / "policy.toml").read_text("utf-8")
    policy = load_policy(text, default_catalogue(), Settings().ws_private_categories)
    grant = policy.grant(read_claims({"sub": "ann", "exp": 0, "tokens": ["BTC", "ODIN"]}))
    catalogue = default_catalogue()
    for name in ("BTC.PORTFOLIO", "ODIN.PORTFOLIO", "*.TRADING"):
        assert grant.missing(catalogue.expand_channel(name)) == []
    for name in ("ETH.PORTFOLIO", "PORTFOLIO", "ALL", "*.*"):
        assert grant.missing(catalogue.expand_channel(name))


def test_make_help() -> None:
    """docs/testing.md shows what `make help` prints."""
    shown = dict(transcripts("docs/testing.md"))["make help"]
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],  # noqa: S607 -- whichever make there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown == done.stdout


async def test_subscriber_of_the_readme_prints_messages() -> None:
    """The README's Python subscriber prints the ack and then messages."""
    (example,) = blocks(page("README.md"), "python")
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    anywhere = Address("127.0.0.1", 0)
    settings = Settings(ws_addr=anywhere, ws_ops_addr=anywhere, ws_drain_delay_seconds=0)
    stop = trio.Event()
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            upstream = Upstream(MemorySource(log), MemoryLogReader(log))
            addresses = await nursery.start(serve, settings, catalogue, upstream, stop)
            code = example.text.replace("localhost:3002", str(addresses.subscribers))
            assert code != example.text
            nursery.start_soon(publish_for_ever, log)
            printed = await first_lines([sys.executable, "-u", "-c", code], 3)
            nursery.cancel_scope.cancel()
    ack, first, second, *_ = printed
    assert '"type":"subscription_ack"' in ack
    assert first.startswith('{"seq":1,')
    assert second.startswith('{"seq":2,')


async def publish_for_ever(log: MemoryLog) -> None:
    """Publish trades at an interval until cancelled."""
    while True:
        log.append("odin.trades", b"BTC", b'{"type":"TRADE_EXECUTED"}')
        await trio.sleep(PUBLISH_SECONDS)


async def first_lines(command: list[str], count: int) -> list[str]:
    """Return the first lines that a program prints, and end it."""
    process = await trio.lowlevel.open_process(command, stdout=PIPE)
    try:
        assert process.stdout is not None
        printed = b""
        while printed.count(b"\n") < count and (more := await process.stdout.receive_some()):
            printed += more
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    return printed.decode().splitlines()


def matches(shown: str, printed: str) -> bool:
    """Whether a program's output is what a page shows of it."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else f"{re.escape(line)}\n"
        for line in shown.splitlines()
    )
    return re.fullmatch(pattern, printed) is not None
