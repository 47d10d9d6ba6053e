"""Topics of a test's own, so that tests can share a cluster, and a server that knows just them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

import attrs

from tests.integration.running_source import Sent
from tests.integration.servers import Client

__all__ = ["CATEGORIES", "Domain", "ids_of", "offsets", "write_domain"]

# Channels of the tests are `T.trade`, `T.social` …
CATEGORIES: Final = ("trade", "social", "balances", "creation")


@attrs.frozen
class Domain:
    """The names of its topics, `catalogue`: the file for WS_CATALOGUE."""

    trade: str
    social: str
    balances: str
    creation: str
    catalogue: Path

    @property
    def topics(self) -> tuple[str, ...]:
        """All of them."""
        return self.trade, self.social, self.balances, self.creation

    @property
    def settings(self) -> dict[str, str]:
        """What lets a server read these topics and no others."""
        return {"WS_CATALOGUE": str(self.catalogue)}

    def record(self, topic: str, number: int, partition: int = 0, key: str = "T") -> Sent:
        """A record with a number for a partition; its channel is that of the key."""
        value = {"type": "TEST", "timestamp": 1, "data": {"n": number}}
        return Sent(topic, key.encode(), json.dumps(value).encode(), partition)

    def records(
        self, topic: str, count: int, first: int = 0, partition: int = 0, key: str = "T"
    ) -> list[Sent]:
        """So many records with consecutive numbers for a partition."""
        return [
            self.record(topic, number, partition, key) for number in range(first, first + count)
        ]


def write_domain(directory: Path) -> Domain:
    """Make up names that no other test uses, and write their catalogue."""
    run = uuid.uuid4().hex[:8]
    names = {category: f"test.{run}.{category}" for category in CATEGORIES}
    lines = ['subject = "test.token"']
    for category, name in names.items():
        lines += ["[[topics]]", f'name = "{name}"', f'category = "{category}"', "events = []"]
    catalogue = directory / f"catalogue-{run}.toml"
    catalogue.write_text("\n".join(lines) + "\n", "utf-8")
    return Domain(**names, catalogue=catalogue)


def offsets(client: Client, category: str = "trade") -> dict[int, list[int]]:
    """The offsets that a client received of a category's topic, by partition, as they came."""
    found: dict[int, list[int]] = {}
    for message in client.messages:
        if message["channel"].rpartition(".")[2] == category:
            partition, _, offset = message["pos"].partition("-")
            found.setdefault(int(partition), []).append(int(offset))
    return found


def ids_of(ack: dict[str, Any]) -> dict[str, Any]:
    """What a client sends back with its positions: the ids of topics, where the ack had them."""
    return {"ids": ack["ids"]} if "ids" in ack else {}
