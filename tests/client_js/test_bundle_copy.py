"""The copy of the client that the console's page uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import odin_ws.ops.console
from tests.client_js.follower import PACKAGE, PATIENCE

COPY = Path(odin_ws.ops.console.__file__).parent / "static" / "odin-ws-client.js"


def test_console_bundle_equals_bundled_sources(node: list[str]) -> None:
    """Byte for byte what tools/bundle.js writes; `make bundle` copies it."""
    subprocess.run([node[0], "tools/bundle.js"], cwd=PACKAGE, timeout=PATIENCE, check=True)
    assert COPY.read_text("utf-8") == (PACKAGE / "dist" / "odin-ws.js").read_text("utf-8")
