"""The Dockerfile and its files, as far as they can be read; tests/integration builds the steps."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.dockerfile import ROOT, stages

IMAGE = ROOT / "deploy" / "image"


def rest(stage: int, name: str) -> list[str]:
    """The instructions of this name in a stage."""
    return [one.rest for one in stages()[stage] if one.name == name]


def pinned(file: Path) -> dict[str, str]:
    """Versions by name; each line has a hash."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\w)", file.read_text("utf-8")):
        line, *hashes = block.replace("\\\n", "\n").splitlines()
        if not line.startswith("#"):
            requirement = Requirement(line.strip())
            assert hashes, line
            assert all(one.strip().startswith("--hash=sha256:") for one in hashes), line
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


def project(folder: str) -> dict[str, Any]:
    """A pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))


def test_the_base_is_one_image() -> None:
    """By digest, with the labels of the same name and digest."""
    (base,) = rest(0, "ARG")
    found = re.fullmatch(r"PYTHON_IMAGE=(python:3[\d.]+-slim-\w+)@(sha256:[0-9a-f]{64})", base)
    assert found
    labels = rest(2, "LABEL")[0]
    assert f'base.name="docker.io/library/{found[1]}"' in labels
    assert f'base.digest="{found[2]}"' in labels
    assert f'image.version="{project(".")["project"]["version"]}"' in labels
    assert {stage[0].rest.split()[0] for stage in stages()[1:]} == {"${PYTHON_IMAGE}"}


def test_dependencies_come_before_the_source() -> None:
    """A change of the source leaves the layer with the dependencies as it is."""
    build = stages()[1]
    order = [one.rest for one in build]
    (installs,) = [
        n
        for n, one in enumerate(order)
        if "image/requirements.txt &&" in one or one.endswith("image/requirements.txt")
    ]
    assert installs < order.index("src src")
    assert installs < order.index("pyproject.toml ./")


def test_what_is_copied_is_sent_to_the_engine() -> None:
    """.dockerignore lets through what COPY names, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = [one for stage in (1, 2) for one in rest(stage, "COPY") if "--from" not in one]
    sources = {source for one in copied for source in one.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    assert all(any(one == s or one.startswith(f"{s}/") for s in let_through) for one in sources)
    assert all(any(one == s or one.startswith(f"{s}/") for one in sources) for s in let_through)


def test_versions_are_those_of_development() -> None:
    """Each has the version of constraints.txt, and what both packages need is there."""
    text = (ROOT / "constraints.txt").read_text("utf-8")
    constraints: dict[str, str] = {
        canonicalize_name(one.partition("==")[0]): one.partition("==")[2].partition(";")[0].strip()
        for one in text.splitlines()
        if one and not one.startswith("#")
    }
    requirements = pinned(IMAGE / "requirements.txt")
    for name, version in requirements.items():
        assert constraints[name] == version, "run make image-files"
    server, client = project("."), project("clients/python")
    needed = [
        *server["project"]["dependencies"],
        *client["project"]["dependencies"],
        *client["project"]["optional-dependencies"]["trio"],
    ]
    names = {canonicalize_name(Requirement(one).name) for one in needed} - {"odin-ws-client"}
    assert names <= requirements.keys(), "run make image-files"
    build = pinned(IMAGE / "build-requirements.txt")
    for one in (server, client):
        for text in one["build-system"]["requires"]:
            requirement = Requirement(text)
            assert requirement.specifier.contains(build[canonicalize_name(requirement.name)])


def test_the_bill_of_materials_is_complete() -> None:
    """The SBOM lists each package that the image installs, with version and licence."""
    bill = json.loads((IMAGE / "sbom.cdx.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    components = {canonicalize_name(one["name"]): one for one in bill["components"]}
    versions = {name: one["version"] for name, one in components.items()}
    assert versions == pinned(IMAGE / "requirements.txt"), "run make image-files"
    assert [name for name, one in components.items() if not one.get("licenses")] == []
    assert bill["metadata"]["component"]["name"] == "odin-ws"


def test_it_runs_as_nobody_of_importance() -> None:
    """A number that is not root's; the command in exec form, so that signals reach it."""
    (user,) = rest(2, "USER")
    assert int(user) > 0
    assert json.loads(rest(2, "ENTRYPOINT")[0]) == ["odin-ws"]
    assert json.loads(rest(2, "CMD")[0]) == ["serve"]


def test_hadolint_has_nothing_to_say() -> None:
    """No rule of hadolint is broken."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("there is no hadolint for this platform")
    command = [hadolint, "--no-color", str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
