"""`odin-ws serve --workers` exits like one process if its workers cannot start."""

from __future__ import annotations

import sys

import pytest

from tests.cli.commands import started

# Its workers are a program that ends at once.
SERVE = """
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
        f"odin-ws: worker {number} ended before it served, with status {status}"
        for number in (1, 2)
    }
    assert "Traceback" not in done.stderr
