"""The subscriptions of a benchmark and the popularity of channels: equal in all processes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.workload import Names, Workload

__all__ = ["Subscription", "popularity", "reach", "subscriptions"]

# The seed of random numbers; all processes must use the same value.
_SEED = 1

# Number of samples for the mean.
_SAMPLE = 500


class Subscription(NamedTuple):
    """The names that one connection subscribes to, and the ascending numbers of their channels."""

    names: list[str]
    channels: NDArray[np.int64]


def popularity(workload: Workload) -> NDArray[np.float64]:
    """Return the share of each channel, by number."""
    ranks = np.arange(1, workload.channels + 1)
    weights = 1 / ranks if workload.zipf else np.ones(workload.channels)
    return np.asarray(weights / weights.sum())


def subscriptions(workload: Workload, names: Names, connections: int) -> list[Subscription]:
    """Return the subscription of each connection; equal in each call."""
    if workload.everything:
        return [Subscription(["*.*"], np.arange(workload.channels))] * connections
    random = np.random.default_rng(_SEED)
    # The channels with the smallest exponential times of these rates: a draw without replacement.
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
    """Return a subscription to the channels `chosen`.

    With `turn` a pattern that matches the first channel replaces it: `{token}.*` if `turn` is even,
    `*.{category}` if odd.
    """
    patterns = [names.channel(int(channel)) for channel in chosen]
    if turn is None:
        return Subscription(patterns, np.sort(chosen))
    token, topic = divmod(int(chosen[0]), workload.topics)
    if turn % 2:
        patterns[0] = f"*.{names.categories[topic]}"
        matched = np.arange(topic, workload.channels, workload.topics)
    else:
        patterns[0] = f"{names.token(token)}.*"
        matched = np.arange(token * workload.topics, (token + 1) * workload.topics)
    return Subscription(patterns, np.union1d(chosen, matched))


def reach(workload: Workload, names: Names, connections: int) -> float:
    """Return the share of the connections that receive a record, on average."""
    shares = popularity(workload)
    sample = subscriptions(workload, names, min(connections, _SAMPLE))
    met = [
        1 - workload.threshold(number) / max(1, workload.filters) for number in range(len(sample))
    ]
    return float(np.mean([shares[row.channels].sum() for row in sample] * np.array(met)))
