"""The bytes of all sockets from which the kernel drops segments."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from odin_ws.resources.tcp_memory import tcp_memory


def test_tcp_memory_is_the_second_number_in_pages(tmp_path: Path) -> None:
    """As the kernel writes it: low, pressure, high."""
    file = tmp_path / "tcp_mem"
    file.write_text("287901\t383868\t575802\n")
    assert tcp_memory(file) == 383868 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("text", [None, "", "1 2", "a b c"])
def test_tcp_memory_is_the_kernels_default_if_unreadable(tmp_path: Path, text: str | None) -> None:
    """A container with a network of its own has no such file: a sixteenth of the memory."""
    file = tmp_path / "tcp_mem"
    if text is not None:
        file.write_text(text)
    assert tcp_memory(file) == int(psutil.virtual_memory().total / 16)
