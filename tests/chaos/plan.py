"""The size of a run, and the subscriptions of its clients."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

__all__ = [
    "FULL",
    "PARTITIONS",
    "SHORT",
    "TOPICS",
    "ClientKind",
    "ClientSpec",
    "Plan",
    "load_specs",
    "specs",
]

# The names are written out instead of read from the catalogue: clients rely on these names.
TOPICS: Final = {"trade": "odin.trades", "liquidity": "odin.liquidity"}
PARTITIONS: Final = 12

# `library`: odin_ws_client; `handwritten`: a client from docs/protocol.md and the `websockets`
# library, which detects errors common to our client and our server.
ClientKind = Literal["library", "handwritten"]

# One in four clients is handwritten.
HANDWRITTEN: Final = 4

# One in 250 clients subscribes to everything, which costs as much as 25 other clients.
EVERYTHING: Final = 250
EVERYTHING_CHANNELS: Final = ("*.trade",)

# One in ten clients subscribes to all categories of its tokens, so has positions of two topics.
ALL_CATEGORIES: Final = 10

# Of a hundred clients, 80 have two tokens, 15 three and 5 four.
TOKENS: Final = (2,) * 80 + (3,) * 15 + (4,) * 5

# A fixed seed: the same subscriptions in every run.
SEED: Final = 1


@attrs.frozen
class Plan:
    """The size of a run."""

    instances: int
    """The number of instances."""
    clients: int
    """The number of clients."""
    tokens: int
    """The number of tokens."""
    rate: float
    """Trades per second and token."""
    quiet_rate: float
    """Records per second and token in the second topic."""
    far: int
    """Clients in a network namespace, if the machine can have one."""
    proxied: int
    """Clients behind a TCP proxy of the tests, which can delay, reset and drop."""
    recovery: float
    """Seconds after each fault in which clients reconnect and are watched."""
    processes: int
    """The number of client processes."""

    def of(self, clients: int) -> Plan:
        """Return the same plan with another number of clients."""
        share = clients / self.clients
        far, proxied = math.ceil(self.far * share), math.ceil(self.proxied * share)
        return attrs.evolve(self, clients=clients, far=far, proxied=proxied)

    @property
    def names(self) -> list[str]:
        """The tokens."""
        return [f"T{number:02}" for number in range(self.tokens)]


FULL: Final = Plan(
    instances=3,
    clients=500,
    tokens=50,
    rate=10,
    quiet_rate=0.5,
    far=50,
    proxied=60,
    recovery=10,
    processes=4,
)
SHORT: Final = Plan(
    instances=2,
    clients=40,
    tokens=10,
    rate=10,
    quiet_rate=0.5,
    far=0,
    proxied=8,
    recovery=1,
    processes=1,
)


@attrs.frozen
class ClientSpec:
    """One client: its name, its subscriptions, and its kind."""

    name: str
    channels: tuple[str, ...]
    kind: ClientKind
    url: str = ""

    @property
    def everything(self) -> bool:
        """Whether the client subscribes to the trades of every token."""
        return self.channels == EVERYTHING_CHANNELS


def specs(plan: Plan) -> list[ClientSpec]:
    """Return the clients of a run, without their addresses; equal plans have equal clients."""
    choose = random.Random(SEED)  # noqa: S311 -- no secret
    return [_spec(plan, number, choose) for number in range(plan.clients)]


def _spec(plan: Plan, number: int, choose: random.Random) -> ClientSpec:
    kind: ClientKind = "handwritten" if number % HANDWRITTEN == 0 else "library"
    name = f"c{number:03}"
    if number % EVERYTHING == EVERYTHING // 2:
        return ClientSpec(name, EVERYTHING_CHANNELS, kind)
    category = "*" if number % ALL_CATEGORIES == 1 else "trade"
    tokens = choose.sample(plan.names, min(choose.choice(TOKENS), plan.tokens))
    return ClientSpec(name, tuple(f"{token}.{category}" for token in tokens), kind)


def save_specs(path: Path, specs: Sequence[ClientSpec]) -> None:
    """Write clients for another process."""
    path.write_text(json.dumps([attrs.asdict(spec) for spec in specs]), "utf-8")


def load_specs(path: Path) -> Iterator[ClientSpec]:
    """Return the clients that `save_specs` wrote."""
    for fields in json.loads(path.read_text("utf-8")):
        yield ClientSpec(fields["name"], tuple(fields["channels"]), fields["kind"], fields["url"])
