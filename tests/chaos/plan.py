"""How large a run is, and who subscribes to what."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

__all__ = ["FULL", "PARTITIONS", "SHORT", "TOPICS", "Plan", "Seat", "Way", "load_seats", "seats"]

# Written out once more, and not taken from the catalogue: clients know these names.
TOPICS: Final = {"trade": "odin.trades", "liquidity": "odin.liquidity"}
PARTITIONS: Final = 12

# `library`: odin_ws_client; `by hand`: clients by docs/protocol.md, with the `websockets` library.
# A check of the server that went through our own client alone would not see what both get wrong.
Way = Literal["library", "by hand"]

# One client in so many is one by hand.
BY_HAND: Final = 4

# A client that takes everything costs as much as 25 others, so there are few of them.
EVERYTHING: Final = 250
EVERYTHING_CHANNELS: Final = ("*.trade",)

# One client in so many subscribes to all categories of its tokens: positions of two topics.
ALL_CATEGORIES: Final = 10

# The numbers of clients, of a hundred, that have two, three and four tokens.
TOKENS: Final = (2,) * 80 + (3,) * 15 + (4,) * 5

# The same subscriptions in every run.
SEED: Final = 1


@attrs.frozen
class Plan:
    """The size of a run.

    `rate`: trades per second and token; `quiet_rate`: the same in the second topic.
    `far`: clients behind a network of their own (netns), where the machine can have one.
    `wired`: clients behind a TCP proxy of ours, which can delay, cut and swallow.
    `calm`: seconds after each fault in which clients come back and are watched.
    """

    instances: int
    clients: int
    tokens: int
    rate: float
    quiet_rate: float
    far: int
    wired: int
    calm: float
    processes: int

    def of(self, clients: int) -> Plan:
        """The same with another number of clients."""
        share = clients / self.clients
        far, wired = math.ceil(self.far * share), math.ceil(self.wired * share)
        return attrs.evolve(self, clients=clients, far=far, wired=wired)

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
    wired=60,
    calm=10,
    processes=4,
)
SHORT: Final = Plan(
    instances=2,
    clients=40,
    tokens=10,
    rate=10,
    quiet_rate=0.5,
    far=0,
    wired=8,
    calm=1,
    processes=1,
)


@attrs.frozen
class Seat:
    """One client: its name, its subscriptions, and its library."""

    name: str
    channels: tuple[str, ...]
    way: Way
    url: str = ""

    @property
    def everything(self) -> bool:
        """Whether it takes the trades of every token."""
        return self.channels == EVERYTHING_CHANNELS


def seats(plan: Plan) -> list[Seat]:
    """The clients of a run, without their addresses; the same ones for the same plan."""
    choose = random.Random(SEED)  # noqa: S311 -- nobody has to be kept from guessing
    return [_seat(plan, number, choose) for number in range(plan.clients)]


def _seat(plan: Plan, number: int, choose: random.Random) -> Seat:
    way: Way = "by hand" if number % BY_HAND == 0 else "library"
    name = f"c{number:03}"
    if number % EVERYTHING == EVERYTHING // 2:
        return Seat(name, EVERYTHING_CHANNELS, way)
    category = "*" if number % ALL_CATEGORIES == 1 else "trade"
    tokens = choose.sample(plan.names, min(choose.choice(TOKENS), plan.tokens))
    return Seat(name, tuple(f"{token}.{category}" for token in tokens), way)


def save_seats(path: Path, taken: Sequence[Seat]) -> None:
    """Write seats for another process."""
    path.write_text(json.dumps([attrs.asdict(seat) for seat in taken]), "utf-8")


def load_seats(path: Path) -> Iterator[Seat]:
    """Read what `save_seats` wrote."""
    for fields in json.loads(path.read_text("utf-8")):
        yield Seat(fields["name"], tuple(fields["channels"]), fields["way"], fields["url"])
