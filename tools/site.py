"""Hooks of mkdocs.yml: pages from outside docs/, and links to files that are no page."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]

# Files of the repository that become pages of the site, by their path there.
PAGES: Final = {
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}

# The first of a fence, a code span (both unchanged) and a link that is no picture.
_PART: Final = re.compile(
    r"(?P<code>^```.*?^```$)"
    r"|(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<link>[^)\s]+)\)"
    r"|`[^`\n]*`",
    re.MULTILINE | re.DOTALL,
)


def on_config(config: Any) -> Any:
    """Add the dated decisions to the navigation, the newest first: each is a page of its own."""
    design = next(section["Design"] for section in config.nav if "Design" in section)
    dated = sorted((ROOT / "docs" / "design").glob("20*.md"), reverse=True)
    design.append({"Decisions": [f"design/{path.name}" for path in dated]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 -- mkdocs' signature
    """Point links at pages of the site; a link to any other file becomes its text."""
    source = page.file.src_uri
    # The path of the page in the repository.
    place = PAGES.get(source, f"docs/{source}")

    def rewrite(found: re.Match[str]) -> str:
        text, link = found["text"], found["link"]
        if link is None or "://" in link or link.startswith(("#", "mailto:")):
            return found[0]
        path, mark, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        inside = target.removeprefix("docs/") if target.startswith("docs/") else target
        if inside in files.src_uris and (target.startswith("docs/") or target in PAGES):
            relative = posixpath.relpath(inside, posixpath.dirname(source) or ".")
            return f"[{text}]({relative}{mark}{anchor})"
        if not (ROOT / target).exists():
            return found[0]  # mkdocs reports the broken link
        return text if "`" in text else f"{text} (`{target}`)"

    return _PART.sub(rewrite, markdown)
