"""Prepares a release and checks it: docs/releasing.md.

usage: python tools/release.py prepare VERSION   writes the version and the changelog's section
       python tools/release.py check             checks this tree
       python tools/release.py check VERSION     prepares a copy of this tree, and checks that

The check builds wheels and sdists, looks at what is in them, installs the wheels into an empty
environment, and runs tests of the sdist with it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "release"

# pyproject.toml has the version; `prepare` writes it to the other files. The group of each pattern
# is the version.
PLACES: Final[Mapping[str, str]] = {
    "pyproject.toml": r'(?m)^version = "([^"]+)"$',
    "pyproject.toml#": r'"odin-ws-client\[trio\]==([^"]+)"',
    "clients/python/pyproject.toml": r'(?m)^version = "([^"]+)"$',
    "clients/js/package.json": r'(?m)^  "version": "([^"]+)",$',
    "src/odin_ws/ops/console/static/odin-ws-client.js": r"^// odin-ws-client ([^,]+),",
    "compose/compose.yaml": r"image: odin-ws:(\S+)",
    "docs/client-js.md": r"odin-ws-client-([\d.]+)\.tgz",
    "docs/monitoring.md": r'(?m)^  "version": "([^"]+)",$',
}

UNRELEASED: Final = "## [Unreleased]\n"

# Important files that a build could omit.
IN_WHEEL: Final = (
    "odin_ws/catalogue/odin.toml",
    "odin_ws/bench/baseline.c",
    "odin_ws/testing/conformance/cases.jsonl",
    "odin_ws/ops/console/static/odin-ws-client.js",
    "odin_ws/py.typed",
    "odin_ws/testing/plugin.py",
)
IN_SDIST: Final = (
    "CHANGELOG.md",
    "README.md",
    "constraints.txt",
    "docs/README.md",
    "examples/scores.toml",
    "examples/sensors.toml",
    "src/odin_ws/catalogue/odin.toml",
    "tests/conftest.py",
    "tools/release.py",
)
NOT_IN_SDIST: Final = ("node_modules/", "/libs/", ".venv/", ".pyc", "tests/kfake/kfake")

# Tests without network and Kafka of the wheel's contents: plugin, data files, commands.
TESTS: Final = (
    "tests/catalogue",
    "tests/cli/test_main.py",
    "tests/cli/test_catalogue.py",
    "tests/protocol/test_commands.py",
    "tests/protocol/test_responses.py",
    "tests/scenarios/test_delivery.py",
    "tests/testing/test_faults.py",
    "tests/testing/test_local_server.py",
)
TEST_TOOLS: Final = ("pytest", "pytest-timeout", "hypothesis", "websockets")


class ReleaseError(Exception):
    """This tree cannot be released; the message says why."""


def versions(root: Path) -> dict[str, set[str]]:
    """Return the version in each place of the tree."""
    return {
        place: set(re.findall(pattern, _text(root, place))) for place, pattern in PLACES.items()
    }


def check_versions(root: Path) -> str:
    """Return the common version of all places.

    Raises:
        ReleaseError: the versions differ.
    """
    found = versions(root)
    (expected,) = found["pyproject.toml"]
    wrong = [
        f"{place} says {said or 'none'}" for place, said in found.items() if said != {expected}
    ]
    if wrong:
        raise ReleaseError(f"pyproject.toml says {expected}, but {'; '.join(wrong)}")
    return expected


def check_changelog(root: Path, version: str) -> None:
    """Check that the changelog has a dated section with entries. Raises ReleaseError."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    if UNRELEASED not in text:
        raise ReleaseError("CHANGELOG.md has no section [Unreleased]")
    heading = re.search(rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text)
    if heading is None:
        raise ReleaseError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`")
    section = text[heading.end() :].partition("\n## [")[0]
    if not re.search(r"(?m)^- ", section):
        raise ReleaseError(f"CHANGELOG.md has no entry for {version}")


def prepare(root: Path, version: str, today: str) -> None:
    """Write the version everywhere, and make Unreleased the changelog's section of it."""
    for place, pattern in PLACES.items():
        path = root / place.rstrip("#")
        path.write_text(re.sub(pattern, _putting(version), path.read_text("utf-8")), "utf-8")
    path = root / "CHANGELOG.md"
    text = path.read_text("utf-8")
    if f"## [{version}]" not in text:
        section = f"{UNRELEASED}\n## [{version}] - {today}\n"
        path.write_text(text.replace(UNRELEASED, section, 1), "utf-8")


def check_wheel(path: Path, needed: Iterable[str]) -> None:
    """Check the files of a wheel. Raises ReleaseError."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    _check_names(path, names, needed)
    strangers = {name.partition("/")[0] for name in names}
    strangers = {stranger for stranger in strangers if not stranger.startswith("odin_ws")}
    if strangers:
        raise ReleaseError(f"{path.name} installs {', '.join(sorted(strangers))} too")


def check_sdist(path: Path, needed: Iterable[str]) -> None:
    """Check the files of a sdist. Raises ReleaseError."""
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    _check_names(path, names, needed)
    if unwanted := [name for name in names if any(part in name for part in NOT_IN_SDIST)]:
        raise ReleaseError(f"{path.name} has {unwanted[0]}")


def check(root: Path, build: Path) -> None:
    """Check a tree; `build`: an empty folder for the built files. Raises ReleaseError."""
    version = check_versions(root)
    check_changelog(root, version)
    say(f"version {version}: in all places, and in the changelog")
    dist = build / "dist"
    for package in (root, root / "clients" / "python"):
        run("-m", "hatchling", "build", "-d", str(dist), cwd=package)
    wheels = sorted(dist.glob("*.whl"))
    server, client = (wheel for wheel in wheels if version in wheel.name)
    check_wheel(server, IN_WHEEL)
    check_wheel(client, ["odin_ws_client/py.typed"])
    sdist = dist / f"odin_ws-{version}.tar.gz"
    check_sdist(sdist, IN_SDIST)
    say("wheels and sdists: what is needed is in them, and nothing else")
    run("-m", "mkdocs", "build", "--strict", "--site-dir", str(build / "site"), cwd=root)
    say("documentation: every link and anchor leads somewhere")
    python = install(build / "venv", wheels, root / "constraints.txt")
    said = run("-m", "odin_ws", "--version", python=python, cwd=build)
    if said.strip() != f"odin-ws {version}":
        raise ReleaseError(f"the installed command says {said.strip()!r}")
    run("-m", "odin_ws", "demo", "--seconds", "3", "--port", "0", "--ops-port", "0", python=python)
    say("an empty environment: installed, and the demo lost no message")
    with tarfile.open(sdist) as archive:
        archive.extractall(build, filter="data")
    tree = build / f"odin_ws-{version}"
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, python=python, cwd=tree)
    say("tests of the sdist, with the installed wheel: passed")


def install(folder: Path, wheels: Iterable[Path], constraints: Path) -> Path:
    """Return the Python of a new environment with the wheels and their tests' requirements."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    server, client = wheels
    names = [
        f"odin-ws[demo,testing] @ {server.as_uri()}",
        f"odin-ws-client[trio] @ {client.as_uri()}",
    ]
    options = ("--quiet", "--disable-pip-version-check", "--constraint", str(constraints))
    run("-m", "pip", "install", *options, *names, *TEST_TOOLS, python=python)
    return python


def run(*words: str, python: Path | None = None, cwd: Path = ROOT) -> str:
    """Return the output of `python …`.

    Raises:
        ReleaseError: the command failed; the message has its output.
    """
    command = [str(python or sys.executable), *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def copy_tree(target: Path) -> None:
    """Copy the files of this tree that git tracks or would add, with their current contents."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 -- a script


def _text(root: Path, place: str) -> str:
    return (root / place.rstrip("#")).read_text("utf-8")


def _putting(version: str) -> Callable[[re.Match[str]], str]:
    return lambda found: found[0].replace(found[1], version)


def _check_names(path: Path, names: Iterable[str], needed: Iterable[str]) -> None:
    if missing := sorted(set(needed) - set(names)):
        raise ReleaseError(f"{path.name} has no {', '.join(missing)}")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    try:
        match words:
            case ["prepare", version]:
                prepare(ROOT, version, _today())
            case ["check", *rest] if len(rest) <= 1:
                shutil.rmtree(BUILD, ignore_errors=True)
                tree = BUILD / "tree"
                copy_tree(tree)
                if rest:
                    prepare(tree, rest[0], _today())
                check(tree, BUILD)
            case _:
                say(__doc__ or "")
                return 2
    except (ReleaseError, OSError) as error:
        say(f"not ready: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
