"""Makes the pictures of docs/images: a lively server, and its console in Chromium.

`make pictures` runs it; it takes a quarter of an hour, so that the charts are full.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import attrs
import trio

from odin_ws.testing.ports import LOOPBACK
from tests import signals
from tests.console.browser import Browser, open_browser
from tests.console.png import shrink
from tests.console.scene import open_scene

__all__ = ["PICTURES", "take_pictures"]

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"

# Limit of one page with its requests, seconds.
MAX_BYTES: Final = 200_000


@attrs.frozen
class Picture:
    """One picture: name, view, theme, window size."""

    name: str
    view: str
    theme: str
    width: int
    height: int


PICTURES: Final = (
    Picture("console-dark", "overview", "dark", 1600, 830),
    Picture("console-light", "overview", "light", 1600, 830),
    Picture("console-tables", "tables", "light", 1440, 900),
    Picture("console-try", "try", "dark", 1280, 980),
    Picture("console-phone", "overview", "light", 390, 844),
)


async def take_pictures(browser: Browser, address: str, folder: Path) -> None:
    """Take all pictures."""
    for picture in PICTURES:
        size = {"width": picture.width, "height": picture.height}
        url = f"{address}#{picture.view}"
        await browser.do("open", url=url, theme=picture.theme, **size)
        await browser.wait_for_text("#link", "live")
        await trio.sleep(4)
        if picture.view == "try":
            await _break_once(browser)
        path = folder / f"{picture.name}.png"
        await browser.do("picture", path=str(path))
        path.write_bytes(shrink(path.read_bytes()))
        assert path.stat().st_size < MAX_BYTES, f"{path.name}: {path.stat().st_size} bytes"
        problems = await browser.do("problems")
        assert problems == [], problems


async def _break_once(browser: Browser) -> None:
    await browser.click("#start")
    await browser.wait_for_text("#try-state", "connected")
    await trio.sleep(5)
    await browser.click("#break")
    await browser.wait_for_text("#events", "resumed without a hole")
    await trio.sleep(3)


async def main(minutes: float) -> None:
    """Run the scene, and take the pictures at its end."""
    async with open_scene() as server, open_browser() as browser:
        await trio.sleep(60 * minutes)
        IMAGES.mkdir(exist_ok=True)
        await take_pictures(browser, f"http://{LOOPBACK}:{server.ops_port}/", IMAGES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.5)
    signals.run(main, parser.parse_args().minutes)
