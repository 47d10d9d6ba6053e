"""What the server accepts, taken from its error messages."""

from __future__ import annotations

import json
from typing import Any

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.errors import CommandError

__all__ = ["command_fields", "commands"]


def commands() -> list[str]:
    """The types of commands."""
    _, _, allowed = _error_message({"type": "?"}).partition("must be one of ")
    names, _, _ = allowed.partition(", not ")
    return names.split(", ")


def command_fields(command: str) -> set[str] | None:
    """The fields that a command's data may have; None if any field is accepted."""
    try:
        decode_command(json.dumps({"type": command, "data": {"?": 0}}), default_catalogue())
    except CommandError as error:
        _, _, names = error.message.partition("; allowed: ")
        return set(names.split(", "))
    return None


def _error_message(command: dict[str, Any]) -> str:
    try:
        decode_command(json.dumps(command), default_catalogue())
    except CommandError as error:
        return error.message
    raise AssertionError(f"{command} is no mistake")
