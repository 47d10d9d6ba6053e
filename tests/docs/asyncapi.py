"""Reads docs/asyncapi.yaml: messages by action, and a check of a text against them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import attrs
import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from tests.docs.pages import page

__all__ = ["AsyncApi", "read_asyncapi"]


@attrs.frozen
class AsyncApi:
    """The document, with its references unresolved."""

    document: dict[str, Any]

    def follow(self, value: Any) -> Any:
        """Return the target of a reference, also of a reference to a reference; else the value."""
        while isinstance(value, dict) and "$ref" in value:
            place: Any = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                place = place[step]
            value = place
        return value

    def messages(self, action: str) -> dict[str, Any]:
        """Messages that the server receives or sends, by the `type` in their payload."""
        found = [
            message
            for operation in self.document["operations"].values()
            for message in self._of(operation, action)
        ]
        return {one["payload"]["properties"]["type"]["const"]: one for one in found}

    def problem(self, text: str, action: str, *, closed: bool = True) -> str | None:
        """Return the first difference of a text from its schema; None if there is none.

        `closed`: also report fields without a description, which clients must ignore.
        """
        content = json.loads(text)
        kinds = self.messages(action)
        if content["type"] not in kinds:
            return f"{content['type']!r} is none of {', '.join(kinds)}"
        # References start at the document's root, so the schema is validated as a part of it.
        schema = {**self.document, **kinds[content["type"]]["payload"]}
        if closed:
            schema = _closed(schema)
        worst = best_match(Draft7Validator(schema).iter_errors(content))
        return None if worst is None else f"{worst.json_path}: {worst.message}"

    def _of(self, operation: dict[str, Any], action: str) -> list[Any]:
        references = operation["messages"] if operation["action"] == action else []
        # What is received has a reply.
        if action == "send" and operation["action"] == "receive":
            references = operation["reply"]["messages"]
        return [self.follow(reference) for reference in references]


@cache
def read_asyncapi() -> AsyncApi:
    """Read docs/asyncapi.yaml, once: parsing takes a second."""
    return AsyncApi(yaml.safe_load(page("docs/asyncapi.yaml")))


def _closed(schema: Any) -> Any:
    """Return a schema whose objects accept no other fields than those that it names."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(value) for name, value in schema.items()}
    # An object with alternatives names some of its fields only in them.
    alternatives = {"oneOf", "anyOf"} & schema.keys()
    if "properties" in schema and schema.get("type") == "object" and not alternatives:
        return {"additionalProperties": False} | inner
    return inner
