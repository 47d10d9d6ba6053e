"""The pictures of docs/images: their size, and what makes them small."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from tests.console.pictures import IMAGES, MAX_BYTES, PICTURES, Picture
from tests.console.png import read_pixels, shrink


@pytest.mark.parametrize("picture", PICTURES, ids=lambda one: one.name)
def test_picture_is_there_and_small(picture: Picture) -> None:
    """With the size of its window; `make pictures` makes it."""
    data = (IMAGES / f"{picture.name}.png").read_bytes()
    assert len(data) < MAX_BYTES
    assert read_pixels(data).shape == (picture.height, picture.width, 3)


PICTURE: Final = IMAGES / f"{PICTURES[-1].name}.png"


def test_what_has_few_colours_stays_as_it_is() -> None:
    """A picture that is small already is not changed by making it small."""
    data = PICTURE.read_bytes()
    assert np.array_equal(read_pixels(shrink(data)), read_pixels(data))
