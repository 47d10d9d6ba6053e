"""The conformance cases: the commands that a client must send, and the server's responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["Case", "Delivery", "difference", "read_cases"]

_CASES: Final = Path(__file__).with_name("cases.jsonl")

# Fields compared completely; in other fields only the given parts are compared.
_WHOLE: Final = ("positions", "ids")


@attrs.frozen
class Delivery:
    """A message that a client delivers to its application."""

    channel: str
    pos: str

    def __str__(self) -> str:
        return f"{self.channel} {self.pos}"


@attrs.frozen
class Case:
    """One case of the file."""

    name: str
    about: str
    """The requirement on the client, in a sentence."""
    subscription: Mapping[str, Any]
    """The fields of the client's `subscribe`."""
    steps: Sequence[Mapping[str, Any]]
    """In order: `client`, a command that the client must send; `server`, an item that the client
    receives; `reject`, the HTTP status of the client's next connection; `application`, a request
    of the application to the client; `end`, the end of the connection."""
    batches: bool = False
    """True if the case tests batches: a client that does not request batches skips the case."""

    @property
    def is_live(self) -> bool:
        """True if the application subscribes or unsubscribes on the live connection."""
        return any("application" in step for step in self.steps)

    def deliveries(self) -> list[Delivery]:
        """Return the messages that the client must deliver: all except those with `drop`."""
        return [
            Delivery(message["channel"], message["pos"])
            for step in self.steps
            if "server" in step and not step.get("drop")
            for message in _messages(step["server"])
        ]


def _messages(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    match item["type"]:
        case "message":
            yield item
        case "batch":
            yield from item["messages"]


def read_cases() -> list[Case]:
    """Return the cases, in the order of the file."""
    cases: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = []
    for line in _CASES.read_text("utf-8").splitlines():
        item = json.loads(line)
        if "case" in item:
            cases.append((item, []))
        else:
            cases[-1][1].append(item)
    return [
        Case(
            head["case"],
            head["about"],
            head["subscription"],
            steps,
            batches=head["subscription"].get("frames") == "batch",
        )
        for head, steps in cases
    ]


def difference(expected: object, got: object, where: str = "the command") -> str | None:
    """Return a description of the difference of a client's command; None if equal.

    Null in a case stands for a missing field.
    """
    if not isinstance(expected, Mapping):
        return None if got == expected else f"{where} is {got!r}, not {expected!r}"
    if not isinstance(got, Mapping):
        return f"{where} is {got!r}, not an object"
    for field, value in expected.items():
        inner = f"{where}.{field}"
        if value is None:
            found = f"{inner} is not expected" if field in got else None
        elif field in _WHOLE:
            found = (
                None if got.get(field) == value else f"{inner} is {got.get(field)!r}, not {value!r}"
            )
        else:
            found = difference(value, got.get(field), inner)
        if found is not None:
            return found
    return None
