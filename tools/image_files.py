"""Writes deploy/image: hashes of all packages in the image, and its bill of materials (SBOM).

usage: python tools/image_files.py

The program installs uv and cyclonedx-bom into build/image-tools, and the image's packages into
build/image-packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

__all__ = ["BUILD", "IMAGE", "build_requirements", "runtime_requirements"]

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGE: Final = ROOT / "deploy" / "image"
BUILD: Final = ROOT / "build"

TOOLS: Final = ("uv==0.13.9", "cyclonedx-bom==7.5.0")

OURS: Final = "odin-ws-client"


def runtime_requirements() -> list[str]:
    """Return the requirements of the server and its client package, without the client package."""
    server = _pyproject(".")["dependencies"]
    client = _pyproject("clients/python")
    others = [one for one in server if not one.startswith(OURS)]
    return [*others, *client["dependencies"], *client["optional-dependencies"]["trio"]]


def build_requirements() -> list[str]:
    """Return the requirements for building both packages."""
    found = set()
    for folder in (".", "clients/python"):
        text = (ROOT / folder / "pyproject.toml").read_text("utf-8")
        found.update(tomllib.loads(text)["build-system"]["requires"])
    return sorted(found)


def _pyproject(folder: str) -> dict[str, Any]:
    text = (ROOT / folder / "pyproject.toml").read_text("utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT)  # noqa: S603 -- ours


def _install(folder: Path, *arguments: str | Path) -> Path:
    """Make an environment without pip and install into it; returns its folder of programs."""
    venv.create(folder, clear=True)
    programs = folder / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    _run(*pip, "install", "--quiet", *arguments)
    return programs


def _compile(programs: Path, wanted: Iterable[str], output: Path) -> None:
    """Resolve with the versions of constraints.txt, and write the hash of each file."""
    source = BUILD / f"{output.stem}.in"
    source.write_text("".join(f"{one}\n" for one in wanted), "utf-8")
    options = ("--universal", "--python-version", "3.11", "--generate-hashes", "--quiet")
    silent = ("--no-header", "--no-annotate", "--no-emit-index-url")
    constraints = ("--constraints", "constraints.txt")
    _run(programs / "uv", "pip", "compile", source, *constraints, *options, *silent, "-o", output)
    head = "# Written by `make image-files`: the versions of constraints.txt, with their hashes.\n"
    output.write_text(head + output.read_text("utf-8"), "utf-8")


def main() -> int:
    """Write the three files."""
    programs = _install(BUILD / "image-tools", *TOOLS)
    requirements = IMAGE / "requirements.txt"
    for file in (requirements, IMAGE / "build-requirements.txt"):
        file.unlink(missing_ok=True)
    _compile(programs, runtime_requirements(), requirements)
    _compile(programs, build_requirements(), IMAGE / "build-requirements.txt")
    packages = _install(
        BUILD / "image-packages", "--require-hashes", "--only-binary", ":all:", "-r", requirements
    )
    bill = IMAGE / "sbom.cdx.json"
    options = ("--mc-type", "application", "--output-reproducible", "--output-format", "JSON")
    project = ("--pyproject", "pyproject.toml")
    python = packages / "python"
    _run(programs / "cyclonedx-py", "environment", *project, *options, "-o", bill, python)
    text = json.dumps(_without_links(json.loads(bill.read_text("utf-8"))), indent=1)
    bill.write_text(text + "\n", "utf-8")
    return 0


def _without_links(value: Any) -> Any:
    """Return the bill without links to web pages, which are two thirds of it and often change."""
    if isinstance(value, dict):
        links = "externalReferences"
        return {name: _without_links(one) for name, one in value.items() if name != links}
    return [_without_links(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
