"""Compiled functions that skip numba's look at the types of arguments."""

from __future__ import annotations

import numpy as np
import pytest

from odin_ws.bench.compiled import compiled_like, find


def test_compiled_like_returns_what_the_function_returns() -> None:
    """For other values of the same types."""
    text, wanted = np.frombuffer(bytearray(b"abcabd"), np.uint8), np.array([ord("b")], np.uint8)
    quick = compiled_like(find, text, 0, wanted)
    assert quick(text, 0, wanted) == find(text, 0, wanted) == 2
    assert quick(text, 2, wanted) == find(text, 2, wanted) == 5


def test_compiled_like_takes_no_other_types() -> None:
    """It does not compile again, which would take seconds during a measurement."""
    text = np.zeros(3, np.uint8)
    quick = compiled_like(find, text, 0, text)
    with pytest.raises(TypeError):
        quick([0], 0, text)  # type: ignore[arg-type]  # what is tested
