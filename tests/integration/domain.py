"""Topics of one test, so that tests can share a cluster, and a server that knows only these."""

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
    """The names of the topics. `catalogue`: the file for WS_CATALOGUE."""

    trade: str
    social: str
    balances: str
    creation: str
    catalogue: Path

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics."""
        return self.trade, self.social, self.balances, self.creation

    @property
    def settings(self) -> dict[str, str]:
        """Settings with which a server reads only these topics."""
        return {"WS_CATALOGUE": str(self.catalogue)}

    def record(self, topic: str, number: int, partition: int = 0, key: str = "T") -> Sent:
        """A numbered record for a partition; its key names the channel."""
        value = {"type": "TEST", "timestamp": 1, "data": {"n": number}}
        return Sent(topic, key.encode(), json.dumps(value).encode(), partition)

    def records(
        self, topic: str, count: int, first: int = 0, partition: int = 0, key: str = "T"
    ) -> list[Sent]:
        """`count` consecutively numbered records for a partition."""
        return [
            self.record(topic, number, partition, key) for number in range(first, first + count)
        ]


def write_domain(directory: Path) -> Domain:
    """Create unique topic names, and write their catalogue."""
    run = uuid.uuid4().hex[:8]
    names = {category: f"test.{run}.{category}" for category in CATEGORIES}
    lines = []
    for category, name in names.items():
        lines += ["[[topics]]", f'name = "{name}"', f'category = "{category}"', "events = []"]
    catalogue = directory / f"catalogue-{run}.toml"
    catalogue.write_text("\n".join(lines) + "\n", "utf-8")
    return Domain(**names, catalogue=catalogue)


def offsets(client: Client, category: str = "trade") -> dict[int, list[int]]:
    """Offsets that a client received of a category's topic, by partition, in order of arrival."""
    found: dict[int, list[int]] = {}
    for message in client.messages:
        if message["channel"].rpartition(".")[2] == category:
            partition, _, offset = message["pos"].partition("-")
            found.setdefault(int(partition), []).append(int(offset))
    return found


def ids_of(ack: dict[str, Any]) -> dict[str, Any]:
    """The topic ids of an ack, if any, which a client returns with its positions."""
    return {"ids": ack["ids"]} if "ids" in ack else {}
