"""Applications of the Python client in an environment of their own, without the server."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import distribution
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import trio
from packaging.requirements import Requirement

from tests.client_js.follower import Callbacks, read_events

__all__ = ["EXTRAS", "build_wheel", "follow", "install"]

PACKAGE: Final = Path(__file__).parents[2] / "clients" / "python"

# What each shell is installed with.
EXTRAS: Final = {"trio": "trio", "asyncio": ""}

APPLICATION: Final = Path(__file__).with_name("application.py")


def build_wheel(folder: Path) -> Path:
    """What `pip wheel` makes of clients/python."""
    words = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PACKAGE)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-cache-dir", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, extra: str = "") -> Path:
    """An empty environment with the wheel and what it requires, and its Python.

    The packages that it requires are copied from this environment: no registry is asked.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    names = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", names))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    pending = [(Requirement("odin-ws-client"), extra)]
    copied: set[str] = set()
    while pending:
        wanted, of = pending.pop()
        found = distribution(wanted.name)
        if wanted.name not in copied and wanted.name != "odin-ws-client":
            copied.add(wanted.name)
            _copy(wanted.name, site)
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": of}):
                pending += [(needed, one) for one in needed.extras or ("",)]
    return folder / "bin" / "python"


def _copy(name: str, site: Path) -> None:
    for file in distribution(name).files or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_binary())


@asynccontextmanager
async def follow(
    python: Path, shell: str, url: str, subscription: Mapping[str, Any]
) -> AsyncIterator[Callbacks]:
    """Run the application for the length of the block."""
    command = [python, "-I", "-W", "error", APPLICATION, shell, url, json.dumps(subscription)]
    process = await trio.lowlevel.open_process([str(word) for word in command], stdout=PIPE)
    lines = read_events(process)
    try:
        yield Callbacks(lines)
    finally:
        await lines.aclose()
        process.kill()
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
        assert process.stdout is not None
        await trio.aclose_forcefully(process.stdout)
