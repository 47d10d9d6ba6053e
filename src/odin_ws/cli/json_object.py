"""The option type of `--where`: a JSON object."""

from __future__ import annotations

from typing import Any

import click

from odin_ws.protocol.json_text import InvalidJson, load_json

__all__ = ["JsonObject"]


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "JSON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the object of a JSON text."""
        try:
            found = load_json(value)
        except InvalidJson as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail("must be a JSON object", param, ctx)
        return found
