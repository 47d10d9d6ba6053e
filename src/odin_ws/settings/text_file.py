"""Reads the text files that settings and options name: catalogue and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["MAX_TEXT_BYTES", "UnreadableFile", "read_text_file"]

# Hundreds of times Odin's catalogue. A device such as /dev/zero has no end: without a limit
# reading it takes all memory of the machine.
MAX_TEXT_BYTES: Final = 1 << 20


class UnreadableFile(ValueError):
    """A file is not the text that it should be. `line`: where it is not text, if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def read_text_file(path: Path) -> str:
    """Read a UTF-8 text of at most MAX_TEXT_BYTES. Raises UnreadableFile."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_TEXT_BYTES:
        raise UnreadableFile(f"is larger than {MAX_TEXT_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        byte = content[error.start]
        raise UnreadableFile(
            f"is not UTF-8 text: byte 0x{byte:02x} in line {line}", line
        ) from error
