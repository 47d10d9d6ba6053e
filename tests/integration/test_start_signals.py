"""A signal at any stage of the start ends the server cleanly, also as process 1 of a container."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import psutil
import pytest

from tests.integration.starting import PATIENCE, SERVING, starting

# What a line of stderr has in it when the start has come so far: modules in the order in which they
# are loaded, then lines of the log.
STARTING = '"event": "starting"'
STAGES = ("click.core", "trio._core", "odin_ws.settings", "odin_ws.serve", STARTING, SERVING)

NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


def _namespaces() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and not subprocess.run(
            [*NAMESPACE, "true"], check=False, capture_output=True, timeout=PATIENCE
        ).returncode
    )


ALONE = pytest.param((), id="process")
FIRST = pytest.param(
    NAMESPACE,
    id="process 1",
    marks=pytest.mark.skipif(not _namespaces(), reason="no namespaces for this user"),
)


@pytest.mark.parametrize("prefix", [ALONE, FIRST])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", STAGES)
def test_signal_during_the_start_ends_it_cleanly(
    prefix: Sequence[str], number: signal.Signals, stage: str
) -> None:
    """Status 0, as after a drain, and no traceback; before it serves one line says what ended it.

    As process 1 too, to which the kernel delivers no signal that has no handler.
    """
    with starting(prefix) as server:
        server.reaches(stage)
        server.signal(number)
        assert server.ended() == 0, "".join(server.log_lines)
    assert "Traceback" not in "".join(server.log_lines)
    if stage in STAGES[:4]:
        assert server.log_lines == [f"odin-ws: stopped by {number.name} before it began\n"]


@pytest.mark.parametrize("prefix", [ALONE, FIRST])
def test_third_signal_ends_with_status_1_without_a_traceback(prefix: Sequence[str]) -> None:
    """Status 1 and no traceback, whenever the third and all others come."""
    with starting(prefix, WS_DRAIN_DELAY_SECONDS="60") as server:
        server.reaches(SERVING)
        while server.process.poll() is None:
            server.signal(signal.SIGTERM)
            server.signal(signal.SIGINT)
        assert server.ended() == 1
    assert "Traceback" not in "".join(server.log_lines)


def test_signal_to_all_processes_while_workers_start_ends_them_cleanly() -> None:
    """As systemd sends it: workers that have not begun end by it, and the status is 0."""
    with starting(WS_WORKERS="2") as server:
        server.reaches("worker starting")
        server.reaches("worker starting")
        for child in psutil.Process(server.process.pid).children():
            child.terminate()
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, "".join(server.log_lines)
    assert "Traceback" not in "".join(server.log_lines)


def test_worker_ended_by_a_signal_before_it_serves_is_replaced_by_the_supervisor() -> None:
    """Somebody has ended one process; that is no reason to end all."""
    with starting(WS_WORKERS="2") as server:
        server.reaches("worker starting")
        server.reaches("worker starting")
        (first, second) = psutil.Process(server.process.pid).children()
        first.terminate()
        server.reaches("worker exited, replaced")
        server.reaches("worker starting")
        assert second.is_running()
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, "".join(server.log_lines)


def test_signal_handlers_are_installed_before_heavy_imports() -> None:
    """What takes time comes after the handler."""
    program = (
        "import sys; before = set(sys.modules); import odin_ws.early_exit, odin_ws.__main__; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert not set(done.stdout.split()) & {
        "asyncio",
        "click",
        "email",
        "importlib",
        "structlog",
        "trio",
    }


def test_garbage_collection_is_off_while_modules_are_loaded() -> None:
    """Not while modules are loaded, which would take a sixth of the start; then it is."""
    program = (
        "import gc, sys, trio; from odin_ws.cli.command_runner import run; gc.disable()\n"
        "async def command(): return 3 if gc.isenabled() else 4\n"
        "sys.exit(run(command))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 3


# Runs a command, and signals itself at Python's end: handlers of atexit run after `main`.
AT_EXIT: Final = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
sys.argv = ["odin-ws", "version"]
from odin_ws.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_while_python_exits_does_not_change_the_status(name: str) -> None:
    """The command has ended: its status stands, and nothing is printed."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT.format(name=name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
