"""The steps of the Dockerfile, run without a container engine in a folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.deploy.dockerfile import ROOT, stages
from tests.integration.running_source import wait_until

# `make test` has the short form, tests/deploy/test_image.py: what the image installs is not run.
pytestmark = pytest.mark.long

# Messages of pip without a registry, when nothing can be installed.
OFFLINE: Final = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")

INSTALL_SECONDS: Final = 300
STOP_SECONDS: Final = 30


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of the build stage in /opt/odin-ws, in another folder and with this Python."""
    folder = tmp_path_factory.mktemp("image")
    base, work, target = folder / "base", folder / "build", folder / "odin-ws"
    # The Python of the base image, with pip.
    venv.create(base, with_pip=True)
    work.mkdir()
    environ = {"PATH": f"{base / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    for name, rest in stages()[1]:
        match name:
            case "COPY":
                *sources, there = shlex.split(rest)
                for source in sources:
                    _copy(ROOT / source, work / there, into=there.endswith("/"))
            case "RUN":
                _run(rest.replace("/opt/odin-ws", str(target)), work, environ)
    return target


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    else:
        if into:
            target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _run(command: str, folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-euc", command],  # noqa: S607 -- as the engine does
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    reported = done.stdout + done.stderr
    if done.returncode != 0 and any(one in reported for one in OFFLINE):
        if os.environ.get("ODIN_REQUIRE_STACK") == "1":
            pytest.fail(f"ODIN_REQUIRE_STACK=1, but nothing can be installed here:\n{reported}")
        pytest.skip("no registry can be reached from here")
    assert done.returncode == 0, reported


def runtime(name: str) -> list[str]:
    """An instruction of the last stage in exec form."""
    (rest,) = [one.rest for one in stages()[2] if one.name == name]
    words: list[str] = json.loads(rest[rest.index("[") :])
    return words


@pytest.mark.timeout(600)
def test_image_has_the_needed_packages_only(image: Path) -> None:
    """The command works, both packages are ours, no dependency conflicts, pip is absent."""
    done = subprocess.run(
        [image / "bin" / "odin-ws", "version"], capture_output=True, text=True, check=True
    )
    assert "0.1.0" in done.stdout
    script = (
        "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    )
    names = subprocess.run(
        [image / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"odin-ws", "odin-ws-client", "aiokafka"} <= set(names)
    assert not {"pip", "setuptools", "hatchling", "pytest"} & set(names)
    check = [sys.executable, "-m", "pip", "--python", str(image / "bin" / "python"), "check"]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def container(image: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """The image's command, with its PATH, on ports of loopback."""
    port, ops_port, kafka_port = free_ports(3)
    environ = {
        "PATH": f"{image / 'bin'}:{os.environ['PATH']}",
        "KAFKA_BROKERS": f"{LOOPBACK}:{kafka_port}",
        "WS_ADDR": f"{LOOPBACK}:{port}",
        "WS_OPS_ADDR": f"{LOOPBACK}:{ops_port}",
        "WS_DRAIN_DELAY_SECONDS": "0",
    }
    command = [*runtime("ENTRYPOINT"), *runtime("CMD")]
    program = shutil.which(command[0], path=environ["PATH"])
    assert program is not None
    process = subprocess.Popen([program, *command[1:]], env=environ, stderr=subprocess.DEVNULL)
    try:
        yield process, environ
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(600)
async def test_healthcheck_is_liveness(
    container: tuple[subprocess.Popen[bytes], dict[str, str]],
) -> None:
    """It succeeds while the server runs, with or without Kafka, and fails after its end."""
    process, environ = container
    check = runtime("HEALTHCHECK")
    program = shutil.which(check[0], path=environ["PATH"])
    assert program is not None

    def healthy() -> bool:
        done = subprocess.run([program, *check[1:]], env=environ, capture_output=True, check=False)
        return done.returncode == 0

    await wait_until(healthy)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS) == 0
    assert not healthy()
