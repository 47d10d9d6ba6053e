"""The number of examples that Hypothesis tries, in the profile of a run."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

__all__ = ["examples"]

_DEFAULT: Final = 100


def examples(count: int) -> int:
    """Return `count`, or a fifth of it in the profile `quick`, for `settings(max_examples=…)`."""
    return max(1, count * settings().max_examples // _DEFAULT)
