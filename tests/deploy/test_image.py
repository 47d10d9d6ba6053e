"""The Dockerfile and its files, without building it; tests/integration builds the steps."""

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
    """The arguments of this instruction in a stage."""
    return [one.rest for one in stages()[stage] if one.name == name]


def pinned(file: Path) -> dict[str, str]:
    """Versions by name; each line must have a hash."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\w)", file.read_text("utf-8")):
        line, *hashes = block.replace("\\\n", "\n").splitlines()
        if not line.startswith("#"):
            requirement = Requirement(line.strip())
            assert hashes, line
            assert all(digest.strip().startswith("--hash=sha256:") for digest in hashes), line
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


def project(folder: str) -> dict[str, Any]:
    """Read a pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))


def test_base_image_is_pinned_by_digest() -> None:
    """Both stages name the base by tag and digest; labels repeat them."""
    (base,) = rest(0, "ARG")
    found = re.fullmatch(r"PYTHON_IMAGE=(python:3[\d.]+-slim-\w+)@(sha256:[0-9a-f]{64})", base)
    assert found
    labels = rest(2, "LABEL")[0]
    assert f'base.name="docker.io/library/{found[1]}"' in labels
    assert f'base.digest="{found[2]}"' in labels
    assert f'image.version="{project(".")["project"]["version"]}"' in labels
    assert {stage[0].rest.split()[0] for stage in stages()[1:]} == {"${PYTHON_IMAGE}"}


def test_dependencies_are_a_layer_before_the_source() -> None:
    """A change of the source leaves the layer of the dependencies unchanged."""
    build = stages()[1]
    order = [one.rest for one in build]
    (installs,) = [
        n
        for n, one in enumerate(order)
        if "image/requirements.txt &&" in one or one.endswith("image/requirements.txt")
    ]
    assert installs < order.index("src src")
    assert installs < order.index("pyproject.toml ./")


def test_dockerignore_admits_what_is_copied() -> None:
    """.dockerignore admits what COPY names, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = [one for stage in (1, 2) for one in rest(stage, "COPY") if "--from" not in one]
    sources = {source for one in copied for source in one.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    assert all(
        any(source == s or source.startswith(f"{s}/") for s in let_through) for source in sources
    )
    assert all(
        any(source == s or source.startswith(f"{s}/") for source in sources) for s in let_through
    )


def test_versions_are_those_of_constraints() -> None:
    """Each dependency has the version of constraints.txt, and none is missing."""
    text = (ROOT / "constraints.txt").read_text("utf-8")
    constraints: dict[str, str] = {
        canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
        .partition(";")[0]
        .strip()
        for line in text.splitlines()
        if line and not line.startswith("#")
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


def test_bill_of_materials_is_complete() -> None:
    """The SBOM lists each package that the image installs, with version and licence."""
    bill = json.loads((IMAGE / "sbom.cdx.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    components = {
        canonicalize_name(component["name"]): component for component in bill["components"]
    }
    versions = {name: one["version"] for name, one in components.items()}
    assert versions == pinned(IMAGE / "requirements.txt"), "run make image-files"
    assert [name for name, one in components.items() if not one.get("licenses")] == []
    assert bill["metadata"]["component"]["name"] == "odin-ws"


def test_container_runs_without_root() -> None:
    """The user is a number other than root's; the exec form lets the command receive signals."""
    (user,) = rest(2, "USER")
    assert int(user) > 0
    assert json.loads(rest(2, "ENTRYPOINT")[0]) == ["odin-ws"]
    assert json.loads(rest(2, "CMD")[0]) == ["serve"]


def test_hadolint_reports_nothing() -> None:
    """Hadolint reports nothing."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("there is no hadolint for this platform")
    command = [hadolint, "--no-color", str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
