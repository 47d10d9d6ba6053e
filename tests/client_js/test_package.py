"""clients/js as a package: its own tests, its types, and the contents of `npm pack`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from tests.client_js.follower import DRIVER, PACKAGE, PATIENCE, follow, missing
from tests.client_js.instances import ALL, Instance, memory_log, restart_twice


@pytest.fixture(scope="session")
def npm(node: list[str]) -> str:
    """npm; skips the test where there is none."""
    assert node
    return shutil.which("npm") or missing("npm is not installed")


def run(*command: str, directory: Path) -> str:
    """What a command prints. It has to succeed."""
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tarball(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm pack` makes."""
    folder = tmp_path_factory.mktemp("packed")
    reported = run(npm, "pack", "--json", "--pack-destination", str(folder), directory=PACKAGE)
    name = json.loads(reported[reported.index("[") :])[0]["filename"]
    return folder / str(name)


@pytest.fixture
def project(npm: str, tarball: Path, tmp_path: Path) -> Path:
    """An empty folder in which the package was installed, and nothing else."""
    run(npm, "install", "--offline", "--no-audit", "--no-fund", str(tarball), directory=tmp_path)
    return tmp_path


def test_modules_pass_their_own_tests(npm: str) -> None:
    """The session without I/O, positions, delays: clients/js/test."""
    run(npm, "test", directory=PACKAGE)


def test_types_pass_strict_checks(npm: str) -> None:
    """The sources are checked, and an application is compiled against the declared types."""
    if not (PACKAGE / "node_modules" / "typescript").exists():
        missing("TypeScript is not installed (make check installs it)")
    run(npm, "run", "types", directory=PACKAGE)


def test_package_has_sources_types_and_bundle_only(project: Path) -> None:
    """The sources, the types and the bundle; no dependency."""
    installed = project / "node_modules"
    assert {path.name for path in installed.iterdir()} == {".package-lock.json", "odin-ws-client"}
    found = {path.name for path in (installed / "odin-ws-client").iterdir()}
    assert found == {"README.md", "package.json", "src", "types", "dist"}


@pytest.mark.parametrize("module", ["odin-ws-client", "odin-ws-client/bundle"])
async def test_installed_package_receives_every_record_through_restarts(
    nursery: trio.Nursery, node: list[str], project: Path, module: str
) -> None:
    """An application in an empty folder gets every record once, modules or bundle."""
    driver = project / "application.mjs"
    driver.write_bytes(DRIVER.read_bytes())
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    url = f"ws://{address}/ws"
    async with follow(node, url, ALL, driver=driver, module=module) as follower:
        await follower.notice("subscription_ack")
        await restart_twice(nursery, address, instance, follower)
