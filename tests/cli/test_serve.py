"""`odin-ws serve --workers` exits like one process if its workers cannot start."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli.commands import started

# Its workers are a program that ends at once.
SERVE = """
import json
import sys
from odin_ws.cli import serve

serve._WORKER = (sys.executable, "-c", "raise SystemExit(%d)")
serve.serve()
"""

SETTINGS = {"WS_ADDR": "127.0.0.1:0", "WS_OPS_ADDR": "127.0.0.1:0", "WS_WORKERS": "2"}


@pytest.mark.parametrize(("status", "expected"), [(2, 2), (1, 1), (0, 1), (3, 1)])
async def test_failed_worker_start_is_one_line_and_its_status(status: int, expected: int) -> None:
    """The line names the worker; status 2, for invalid settings, is passed on."""
    async with started([sys.executable, "-c", SERVE % status], **SETTINGS) as command:
        done = await command.ended()
    assert done.returncode == expected
    assert done.stderr.splitlines()[-1] in {
        f"odin-ws: worker {number} exited before it served, with status {status}"
        for number in (1, 2)
    }
    assert "Traceback" not in done.stderr


# Prints the settings of the command line, and those that its workers would read.
OPTIONS = """
import json, os
from odin_ws.cli import serve, serve_process

def show(options, worker):
    print(json.dumps([options, {name: os.environ[name] for name in options}]))

serve_process.run_server = show
serve.serve()
"""


@pytest.mark.parametrize(
    ("words", "address", "options"),
    [
        ((), "", {}),
        (("--port", "8080"), "", {"WS_ADDR": ":8080"}),
        (("--port", "8080"), "[::1]:3002", {"WS_ADDR": "[::1]:8080"}),
        (
            ("--brokers", "a:1,b:2", "--workers", "2", "--catalogue", "scores.toml"),
            "",
            {"WS_WORKERS": "2", "KAFKA_BROKERS": "a:1,b:2", "WS_CATALOGUE": "scores.toml"},
        ),
    ],
)
async def test_options_override_settings(
    words: tuple[str, ...], address: str, options: dict[str, str]
) -> None:
    """Each option stands for a setting, for this process and its workers."""
    settings = {"KAFKA_BROKERS": "c:3", "WS_ADDR": address}
    async with started([sys.executable, "-c", OPTIONS, *words], **settings) as command:
        done = await command.ended()
    assert json.loads(done.stdout) == [options, options]
