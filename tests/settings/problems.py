"""What stops the start."""

from __future__ import annotations

import pytest

from odin_ws.settings import SettingsError, load_settings

__all__ = ["problem_of", "problems_of"]


def problems_of(**environ: str) -> list[str]:
    """What these variables stop the start with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def problem_of(**environ: str) -> str:
    """The one thing that these variables stop the start with."""
    (problem,) = problems_of(**environ)
    return problem
