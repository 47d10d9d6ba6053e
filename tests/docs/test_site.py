"""The documentation as a site: built strictly, complete, and without other hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, pages

PATIENCE_SECONDS = 110

# Elements and attributes that a browser loads by itself; an `a` is only a link.
ASSETS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}

# Relations of `link` that load nothing.
LINKS_ONLY = {"canonical", "next", "prev"}


class Assets(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of an asset."""
        given = dict(attrs)
        if tag in ASSETS and given.get("rel") not in LINKS_ONLY:
            self.found.append(given.get(ASSETS[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; the build fails for a broken link or anchor, and for a page in no menu."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return folder


def navigation() -> Iterator[str]:
    """Each page in the menu of mkdocs.yml."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    # The only tag in the file names a function, which the test does not need.
    nav = yaml.safe_load(re.sub(r"!!python/\S+ \{.*\}", '""', text))["nav"]
    waiting = list(nav)
    while waiting:
        match waiting.pop():
            case str(page):
                yield page
            case dict(entry):
                for value in entry.values():
                    waiting += value if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation() -> None:
    """mkdocs.yml must have each new page; only dated decisions are added automatically."""
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    there = {name for name in there if not name.startswith("design/20")}
    assert there <= set(navigation())


def test_no_page_needs_another_host(site: Path) -> None:
    """Scripts, styles, fonts and pictures are in the site; styles load nothing from other hosts."""
    for path in site.rglob("*.html"):
        assets = Assets()
        assets.feed(path.read_text("utf-8"))
        outside = [one for one in assets.found if re.match(r"(?i)https?:|//", one)]
        assert not outside, path.name
    for path in site.rglob("*.css"):
        text = path.read_text("utf-8")
        assert not re.search(r"(?i)(@import|url\()\s*[\"']?(https?:|//)", text), path.name


def test_search_index_has_every_page(site: Path) -> None:
    """The index is a file of the site, with an entry for each page of docs/."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    docs = ROOT / "docs"
    for path in pages():
        if docs in path.parents:
            name = path.relative_to(docs).with_suffix(".html").as_posix()
            assert name.replace("README.html", "index.html") in found | {"index.html"}, name


def test_api_reference_has_public_names(site: Path) -> None:
    """It has the docstrings of the Python packages."""
    client = (site / "api" / "odin_ws_client.html").read_text("utf-8")
    testing = (site / "api" / "odin_ws_testing.html").read_text("utf-8")
    assert 'id="odin_ws_client.Subscription"' in client
    assert 'id="odin_ws.testing.follower.Follower.check"' in testing


def test_links_to_source_files_are_text(site: Path) -> None:
    """Files that are not pages of the site are named without a link."""
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.search(r'href="[^":]*\.\./(src|tests|deploy|clients)/', text), path.name
