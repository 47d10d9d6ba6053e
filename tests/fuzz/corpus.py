"""Inputs that are kept: each was found by fuzzing, and is tried again with every test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.seeds import SEEDS

__all__ = ["CORPUS", "kept", "seeds"]

CORPUS: Final = Path(__file__).with_name("corpus")


def kept(target: str) -> Iterator[Path]:
    """The files of a target."""
    yield from sorted((CORPUS / target).glob("*"))


def seeds(target: str) -> Iterator[bytes]:
    """What fuzzing begins with."""
    yield from (b"".join(parts) for parts in SEEDS[target])
