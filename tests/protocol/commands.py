"""Decode commands given as Python objects, and return selections or errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Command, Resume, Subscribe, Unsubscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.selection import Selection

__all__ = ["CATALOGUE", "decode", "rejected", "required_data", "selecting", "selection"]

CATALOGUE = default_catalogue()

# The commands that select channels.
selecting = pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "resume"])


def required_data(kind: str) -> dict[str, Any]:
    """Return the fields that the command's data needs besides names."""
    return {"positions": {}} if kind == "resume" else {}


def decode(command: object) -> Command:
    """Decode the JSON text of a command."""
    return decode_command(json.dumps(command), CATALOGUE)


def selection(kind: str = "subscribe", **data: object) -> Selection:
    """Return what the data of a command selects."""
    command = decode({"type": kind, "data": required_data(kind) | data})
    assert isinstance(command, Subscribe | Resume | Unsubscribe)
    return command.selection


def rejected(command: object) -> CommandError:
    """Return the error with which the command is rejected."""
    with pytest.raises(CommandError) as caught:
        decode(command)
    return caught.value
