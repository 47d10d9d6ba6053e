"""Returns the problems that stop the start."""

from __future__ import annotations

import pytest

from odin_ws.settings import SettingsError, load_settings

__all__ = ["problem_of", "problems_of"]


def problems_of(**environ: str) -> list[str]:
    """Return the problems that these variables stop the start with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def problem_of(**environ: str) -> str:
    """Return the only problem of these variables."""
    (problem,) = problems_of(**environ)
    return problem
