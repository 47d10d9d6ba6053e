"""Inputs that fuzzing has found, which every test run repeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.seeds import SEEDS

__all__ = ["CORPUS", "kept", "seeds"]

CORPUS: Final = Path(__file__).with_name("corpus")


def kept(target: str) -> Iterator[Path]:
    """The kept inputs of a target."""
    yield from sorted((CORPUS / target).glob("*"))


def seeds(target: str) -> Iterator[bytes]:
    """The inputs with which fuzzing a target begins."""
    yield from (b"".join(parts) for parts in SEEDS[target])
