"""Links between pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, links, pages


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(path: Path) -> None:
    """Each relative link leads to a file of the repository, and to a heading if it names one."""
    text = path.read_text("utf-8")
    broken = [link for link in links(text) if not _resolves(path, link)]
    assert not broken


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_have_no_absolute_path_of_a_machine(path: Path) -> None:
    """No page has an absolute path of the machine on which it was written."""
    text = path.read_text("utf-8")
    assert not [start for start in ("/work/", "/root/", "/home/", "/tmp/") if start in text]  # noqa: S108


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to each page of docs/."""
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in _local(index)}
    there = set((ROOT / "docs").rglob("*.md")) - {index}
    assert there <= reached


def _local(path: Path) -> list[str]:
    return [link for link in links(path.read_text("utf-8")) if "://" not in link]


def _resolves(path: Path, link: str) -> bool:
    if "://" in link:
        return True
    file, _, anchor = link.partition("#")
    target = (path.parent / file).resolve() if file else path
    if not target.exists() or ROOT not in (target, *target.parents):
        return False
    return not anchor or anchor in anchors(target.read_text("utf-8"))
