"""The pictures of docs/images: window size and file size."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from tests.console.pictures import IMAGES, MAX_BYTES, PICTURES, Picture
from tests.console.png import read_pixels, shrink


@pytest.mark.parametrize("picture", PICTURES, ids=lambda one: one.name)
def test_picture_has_its_window_size_and_is_small(picture: Picture) -> None:
    """`make pictures` makes it."""
    data = (IMAGES / f"{picture.name}.png").read_bytes()
    assert len(data) < MAX_BYTES
    assert read_pixels(data).shape == (picture.height, picture.width, 3)


PICTURE: Final = IMAGES / f"{PICTURES[-1].name}.png"


def test_shrink_keeps_a_picture_with_few_colours() -> None:
    """A small picture is not changed again."""
    data = PICTURE.read_bytes()
    assert np.array_equal(read_pixels(shrink(data)), read_pixels(data))
