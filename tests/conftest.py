"""What every test may use."""

from __future__ import annotations

from hypothesis import settings

# What passes here passes in CI: the same examples each time. To look for others:
# make test ARGS="--hypothesis-profile explore"
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("same")
