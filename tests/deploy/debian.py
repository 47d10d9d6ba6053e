"""Programs from Debian's packages: HAProxy, Prometheus, nginx."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

__all__ = ["find_program", "program"]

# Debian installs servers in directories that only root has in its PATH.
PLACES: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find_program(name: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    return shutil.which(name, path=PLACES)


def program(name: str) -> str:
    """Return a program's path; without it skip the test, or fail it if ODIN_REQUIRE_STACK=1."""
    found = find_program(name)
    if found is not None:
        return found
    reason = f"there is no {name} here: `bash tools/system_packages.sh` installs it"
    if os.environ.get("ODIN_REQUIRE_STACK") == "1":
        pytest.fail(f"ODIN_REQUIRE_STACK=1, but {reason}")
    pytest.skip(reason)
