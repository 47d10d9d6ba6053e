"""The Dockerfile as its instructions, stage by stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ROOT", "Instruction", "stages"]

ROOT: Final = Path(__file__).parents[2]


class Instruction(NamedTuple):
    """One instruction: `RUN` and its arguments, on one line."""

    name: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, which begins with FROM; ARGs before the first come first."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in text.splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append(Instruction(name, re.sub(r"\s+", " ", rest.strip())))
    return found
