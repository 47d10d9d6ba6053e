"""Programs that come from Debian's packages: HAProxy, Prometheus, nginx."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

__all__ = ["find_program", "program"]

# Debian puts servers where only root looks for programs.
PLACES: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find_program(name: str) -> str | None:
    """The path of a program, where it is installed."""
    return shutil.which(name, path=PLACES)


def program(name: str) -> str:
    """The path of a program; skips the test without it, or fails it under ODIN_REQUIRE_STACK=1."""
    found = find_program(name)
    if found is not None:
        return found
    reason = f"there is no {name} here: `bash tools/system_packages.sh` installs it"
    if os.environ.get("ODIN_REQUIRE_STACK") == "1":
        pytest.fail(f"ODIN_REQUIRE_STACK=1, but {reason}")
    pytest.skip(reason)
