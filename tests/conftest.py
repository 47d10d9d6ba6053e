"""Fixtures for every test."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis tries the same examples each time, so what passes here passes in CI. To try others:
# make test ARGS="--hypothesis-profile explore"
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("same")
