"""docs/asyncapi.yaml, taken apart: what is sent and received, and whether a text is as it says."""

from __future__ import annotations

import json
from typing import Any

import attrs
import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from tests.docs.pages import page

__all__ = ["AsyncApi", "read_asyncapi"]


@attrs.frozen
class AsyncApi:
    """The document, with its references left as they are."""

    document: dict[str, Any]

    def follow(self, value: Any) -> Any:
        """What a reference stands for, however many there are on the way; else the value."""
        while isinstance(value, dict) and "$ref" in value:
            place: Any = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                place = place[step]
            value = place
        return value

    def messages(self, action: str) -> dict[str, Any]:
        """By the `type` in their payload, those that the server receives or sends."""
        found = [
            message
            for operation in self.document["operations"].values()
            for message in self._of(operation, action)
        ]
        return {one["payload"]["properties"]["type"]["const"]: one for one in found}

    def problem(self, text: str, action: str, *, closed: bool = True) -> str | None:
        """What a text has that is not as described; None where all is.

        `closed`: also fields that are not described at all, which clients have to ignore.
        """
        content = json.loads(text)
        kinds = self.messages(action)
        if content["type"] not in kinds:
            return f"{content['type']!r} is none of {', '.join(kinds)}"
        # References go from the document's root, so a schema stands among all others.
        schema = {**self.document, **kinds[content["type"]]["payload"]}
        if closed:
            schema = _closed(schema)
        worst = best_match(Draft7Validator(schema).iter_errors(content))
        return None if worst is None else f"{worst.json_path}: {worst.message}"

    def _of(self, operation: dict[str, Any], action: str) -> list[Any]:
        references = operation["messages"] if operation["action"] == action else []
        # What is received is answered.
        if action == "send" and operation["action"] == "receive":
            references = operation["reply"]["messages"]
        return [self.follow(one) for one in references]


def read_asyncapi() -> AsyncApi:
    """The document."""
    return AsyncApi(yaml.safe_load(page("docs/asyncapi.yaml")))


def _closed(schema: Any) -> Any:
    """A schema whose objects have no other fields than those that it names."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(value) for name, value in schema.items()}
    # An object with alternatives names some of its fields only there.
    alternatives = {"oneOf", "anyOf"} & schema.keys()
    if "properties" in schema and schema.get("type") == "object" and not alternatives:
        return {"additionalProperties": False} | inner
    return inner
