"""Channels, their popularity, and subscriptions: the same in all processes.

Channel k is token k // topics in topic k % topics; the smaller its number, the more popular it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from odin_ws.catalogue import Catalogue, default_catalogue, load_catalogue

__all__ = [
    "EVENTS",
    "Names",
    "Subscription",
    "Workload",
    "catalogue_of",
    "names_for",
    "popularity",
    "reach",
    "subscriptions",
]

# Any value; all processes must use the same.
_SEED = 1

# Enough samples for a mean.
_SAMPLE = 500


@attrs.frozen
class Workload:
    """Channels and subscriptions.

    `each`: channels per subscriber. `zipf`: popularity falls with the rank, in publishing and
    subscribing; otherwise all channels are equal. `patterned`: the share of subscribers with a
    pattern among their subscriptions, alternately `{token}.*` and `*.{category}`. `everything`: all
    subscribe to `*.*`.
    """

    tokens: int = 1
    topics: int = 1
    each: int = 1
    zipf: bool = False
    patterned: float = 0.0
    everything: bool = False

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.tokens * self.topics

    def within(self, catalogue: Catalogue) -> Workload:
        """The same with no more topics than the catalogue has."""
        topics = min(self.topics, len(catalogue.topics))
        return attrs.evolve(self, topics=topics, each=min(self.each, self.tokens * topics))


EVENTS: Final = Workload(tokens=12, topics=8, everything=True)
"""The generator's twelve tokens in all topics, and subscribers to everything."""


@attrs.frozen
class Names:
    """How tokens, categories and topics are called; `prefix` is this run's own.

    `catalogue_file`: where they are from, if not from Odin's catalogue.
    """

    prefix: str
    categories: Sequence[str]
    topics: Sequence[str]
    catalogue_file: str | None = None

    def token(self, number: int) -> str:
        """Return the name of a token."""
        return f"{self.prefix}{number}"

    def channel(self, number: int) -> str:
        """Return the name of a channel."""
        token, topic = divmod(number, len(self.topics))
        return f"{self.token(token)}.{self.categories[topic]}"


def catalogue_of(file: str | Path | None) -> Catalogue:
    """The catalogue of a file, or Odin's. Raises CatalogueError."""
    return default_catalogue() if file is None else load_catalogue(Path(file).read_text("utf-8"))


def names_for(workload: Workload, catalogue_file: Path | None = None) -> Names:
    """Names in the first topics of the catalogue.

    Tokens begin with a random prefix: records of earlier runs do not match.
    """
    topics = list(catalogue_of(catalogue_file).topics.values())[: workload.topics]
    return Names(
        f"B{secrets.token_hex(3)}-",
        [topic.category for topic in topics],
        [topic.name for topic in topics],
        None if catalogue_file is None else str(catalogue_file),
    )


class Subscription(NamedTuple):
    """The names that one connection subscribes to, and the numbers of its channels, ascending."""

    names: list[str]
    channels: NDArray[np.int64]


def popularity(workload: Workload) -> NDArray[np.float64]:
    """Return the share of each channel, by number."""
    ranks = np.arange(1, workload.channels + 1)
    weights = 1 / ranks if workload.zipf else np.ones(workload.channels)
    return np.asarray(weights / weights.sum())


def subscriptions(workload: Workload, names: Names, connections: int) -> list[Subscription]:
    """Return the subscription of each connection; the same ones each time."""
    if workload.everything:
        return [Subscription(["*.*"], np.arange(workload.channels))] * connections
    random = np.random.default_rng(_SEED)
    # The smallest of exponential times with these rates: a draw without replacement.
    shares = popularity(workload)
    every = round(1 / workload.patterned) if workload.patterned else 0
    found = []
    for number in range(connections):
        times = random.standard_exponential(workload.channels) / shares
        chosen = np.argpartition(times, workload.each - 1)[: workload.each]
        turn, rest = divmod(number, every) if every else (0, 1)
        found.append(_subscription(workload, names, chosen, turn if rest == 0 else None))
    return found


def _subscription(
    workload: Workload, names: Names, chosen: NDArray[np.int64], turn: int | None
) -> Subscription:
    """Return a subscription; in turn, a pattern that matches the first channel replaces it."""
    asked = [names.channel(int(channel)) for channel in chosen]
    if turn is None:
        return Subscription(asked, np.sort(chosen))
    token, topic = divmod(int(chosen[0]), workload.topics)
    if turn % 2:
        asked[0] = f"*.{names.categories[topic]}"
        matched = np.arange(topic, workload.channels, workload.topics)
    else:
        asked[0] = f"{names.token(token)}.*"
        matched = np.arange(token * workload.topics, (token + 1) * workload.topics)
    return Subscription(asked, np.union1d(chosen, matched))


def reach(workload: Workload, names: Names, connections: int) -> float:
    """Return the share of the connections that receive a record, on average."""
    shares = popularity(workload)
    sample = subscriptions(workload, names, min(connections, _SAMPLE))
    return float(np.mean([shares[one.channels].sum() for one in sample]))
