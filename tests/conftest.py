"""Fixtures for every test."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis tries the same examples each time, so what passes here passes in CI, and it has no
# deadline, which a busy machine would exceed. To try other examples:
# make test ARGS="--hypothesis-profile explore"
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("same")
