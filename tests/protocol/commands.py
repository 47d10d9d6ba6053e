"""Commands given as what their JSON stands for, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.commands import (
    Command,
    Resume,
    Subscribe,
    Unsubscribe,
    decode_command,
)
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.selection import Selection

__all__ = ["CATALOGUE", "decode", "extra", "rejected", "selecting", "selection"]

CATALOGUE = default_catalogue()

# The commands that name what they are about.
selecting = pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "resume"])


def extra(kind: str) -> dict[str, Any]:
    """What the data of such a command needs besides names."""
    return {"positions": {}} if kind == "resume" else {}


def decode(command: object) -> Command:
    """Read a command that is given as what its JSON stands for."""
    return decode_command(json.dumps(command), CATALOGUE)


def selection(kind: str = "subscribe", **data: object) -> Selection:
    """What the data of a command selects."""
    command = decode({"type": kind, "data": extra(kind) | data})
    assert isinstance(command, Subscribe | Resume | Unsubscribe)
    return command.selection


def rejected(command: object) -> CommandError:
    """What a command is rejected with."""
    with pytest.raises(CommandError) as caught:
        decode(command)
    return caught.value
