"""The kernel's memory for TCP: where it begins to drop segments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psutil

__all__ = ["tcp_memory"]

_FILE: Final = Path("/proc/sys/net/ipv4/tcp_mem")

# The kernel's default, as a part of the machine's memory.
_DEFAULT_PART: Final = 1 / 16


def tcp_memory(file: Path = _FILE) -> int:
    """Return the bytes of all sockets from which the kernel is under memory pressure.

    That is the second number of net.ipv4.tcp_mem; the kernel's default where it cannot be read, as
    in a container with a network of its own.
    """
    try:
        _low, pressure, _high = map(int, file.read_text("ascii").split())
    except (OSError, ValueError):
        return int(_DEFAULT_PART * psutil.virtual_memory().total)
    return pressure * os.sysconf("SC_PAGE_SIZE")
