"""Metric families with one sample, or one for each value of a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from odin_ws.histogram import Histogram

__all__ = ["counter", "gauge", "histogram", "labelled_counter"]


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """Return a counter with one sample."""
    return CounterMetricFamily(name, text, value=value)


def gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge; without a sample if its value is unknown."""
    return GaugeMetricFamily(name, text, value=value)


def labelled_counter(
    name: str, text: str, label: str, counts: Mapping[Any, int]
) -> CounterMetricFamily:
    """Return a counter with a sample for each label value."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def histogram(name: str, text: str, values: Histogram) -> HistogramMetricFamily:
    """Return a histogram."""
    buckets = []
    seen = 0
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        seen += count
        buckets.append((bound, seen))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=values.total)
