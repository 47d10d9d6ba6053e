"""Secrets: settings that are never printed and may come from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["MAX_SECRET_BYTES", "Secret", "read_secret_file"]

# A PEM key has a few KiB; a far larger file is the wrong file.
MAX_SECRET_BYTES: Final = 64 << 10


class Secret:
    """A value that logs, errors and tracebacks show as `***`; only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, which must not be stored, printed or put into a message."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)


def read_secret_file(path: Path) -> Secret:
    """Read a secret from a file, without line ends at its end.

    Raises ValueError with the problem of the file and nothing of its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"is larger than a secret may be ({MAX_SECRET_BYTES} bytes)")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if not text.strip():
        raise ValueError("is empty")
    return Secret(text)
