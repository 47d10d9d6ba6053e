"""Measurements for tests: a valid one, of which a test changes some fields."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from odin_ws.bench.histogram import BINS
from odin_ws.bench.results import Latency, Measurement, Sample

__all__ = ["measurement", "sample"]


def measurement(**changes: Any) -> Measurement:
    """Return 10 s of 100 connections that each received 20 messages a second."""
    usual = Measurement(
        label="steady",
        connections=100,
        subscribed=100,
        connect_seconds=0.5,
        connect_cpu=0.02,
        rate=20,
        seconds=10,
        received=20_000,
        bytes=20_000 * 430,
        latency=Latency(20, 40, 60, 80, 90.04),
        counts=np.zeros(BINS, np.int64),
        cpu_seconds=0.2,
        rss_before=50_000_000,
        rss_connected=52_000_000,
        rss_after=52_500_000,
        load_cpu=0.1,
        publisher_cpu=0.05,
        others_cpu=0.5,
        published=260,
        published_rate=20.0,
        back_seconds=None,
        rejected_connections={},
        closes={},
        problems={"lost": 0},
        samples=[],
    )
    return attrs.evolve(usual, **changes)


def sample(at: float, rss: int) -> Sample:
    """Return a sample of the server's memory."""
    return Sample(at=at, delivered=2000, p50=20, p99=60, rss=rss)
