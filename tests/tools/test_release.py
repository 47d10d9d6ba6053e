"""tools/release.py: one version in all places, a changelog, and the archives' contents."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tools import release

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that have the version, and of the changelog."""
    for place in (*release.PLACES, "CHANGELOG.md"):
        name = place.rstrip("#")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_this_tree_has_one_version() -> None:
    """All files have the version of pyproject.toml."""
    release.check_versions(ROOT)


@pytest.mark.parametrize("place", [place for place in release.PLACES if place != "pyproject.toml"])
def test_another_version_is_named_with_its_place(tree: Path, place: str) -> None:
    """A file with an old version is an error."""
    version = release.check_versions(tree)
    path = tree / place.rstrip("#")
    pattern = release.PLACES[place]
    path.write_text(
        re.sub(pattern, lambda found: found[0].replace(version, "9.9.9"), path.read_text())
    )
    with pytest.raises(release.ReleaseError, match=r"but .* says"):
        release.check_versions(tree)


def test_prepared_tree_is_ready(tree: Path) -> None:
    """`prepare` sets the version in all files, and moves Unreleased to its section."""
    with pytest.raises(release.ReleaseError, match=r"no section `## \[9\.8\.7\]"):
        release.check_changelog(tree, "9.8.7")
    release.prepare(tree, "9.8.7", "2026-12-01")
    assert release.check_versions(tree) == "9.8.7"
    release.check_changelog(tree, "9.8.7")
    text = (tree / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]\n\n## [9.8.7] - 2026-12-01\n" in text
    release.prepare(tree, "9.8.7", "2026-12-02")
    assert (tree / "CHANGELOG.md").read_text("utf-8") == text


def test_section_without_an_entry_is_not_enough(tree: Path) -> None:
    """A section of headings without entries is an error."""
    (tree / "CHANGELOG.md").write_text(
        "## [Unreleased]\n\n## [1.0.0] - 2026-12-01\n\n## [0.9.0]\n- x\n"
    )
    with pytest.raises(release.ReleaseError, match=r"no entry for 1\.0\.0"):
        release.check_changelog(tree, "1.0.0")


@pytest.mark.parametrize(
    ("names", "output"),
    [
        (["odin_ws/other.py"], "has no odin_ws/py.typed"),
        (["odin_ws/py.typed", "tests/conftest.py"], "installs tests too"),
    ],
)
def test_wheel_with_wrong_contents(tmp_path: Path, names: list[str], output: str) -> None:
    """A missing data file, or a package of another project, is an error."""
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(release.ReleaseError, match=output):
        release.check_wheel(path, ["odin_ws/py.typed"])
