"""The systemd unit: valid, and confined."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from odin_ws.settings import load_settings

UNIT = Path(__file__).parents[2] / "deploy" / "odin-ws.service"
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")


def analyze(*arguments: str) -> str:
    """Run systemd-analyze; return its output."""
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """No name is unknown and no value ignored; only the program's path is replaced."""
    unit = tmp_path / UNIT.name
    program = Path(sys.executable).with_name("odin-ws")
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/odin-ws/bin/odin-ws", str(program)))
    assert analyze("verify", str(unit)) == ""


@needs_systemd
def test_unit_is_confined() -> None:
    """Systemd's exposure level, from 0 (confined) to 10, is below 2."""
    analyze("security", "--offline=true", "--threshold=20", str(UNIT))


def test_settings_of_the_unit_are_valid() -> None:
    """The server accepts the settings that it sets."""
    environ: dict[str, str] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if line.startswith("Environment="):
            environ |= dict(word.split("=", 1) for word in line.split("=", 1)[1].split())
    settings, unknown = load_settings(environ)
    assert (settings.ws_max_connections_per_ip or 0) > 0
    assert (settings.ws_connect_rate_per_ip or 0) > 0
    assert settings.ws_connect_rate > 0
    assert unknown == []
