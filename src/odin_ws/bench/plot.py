"""Draws runs: the distribution of latency, throughput and latency over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np
import pygal
from pygal.style import CleanStyle

from odin_ws.bench.histogram import quantiles
from odin_ws.bench.results import Measurement

__all__ = ["draw"]

_WIDTH: Final = 900
_HEIGHT: Final = 360

# Quantiles on a logarithmic scale, which shows rare values: 1 is 90%, 2 is 99%, 3 is 99.9%.
_NINES: Final = np.linspace(0, 4, 81)
_LABELS: Final = {0: "0%", 1: "90%", 2: "99%", 3: "99.9%", 4: "99.99%"}

_TIME: Final = "seconds since the start of the measurement"

_SVG: Final = "http://www.w3.org/2000/svg"


def draw(runs: Sequence[Measurement]) -> bytes:
    """Return an SVG image of three charts, one below the other."""
    charts = [_distribution(runs), _throughput(runs), _over_time(runs)]
    ET.register_namespace("", _SVG)
    height = _HEIGHT * len(charts)
    image = ET.Element(
        f"{{{_SVG}}}svg",
        {"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "height": str(height)},
    )
    for number, chart in enumerate(charts):
        part = ET.fromstring(chart.render(disable_xml_declaration=True))  # noqa: S314 -- our own
        part.attrib |= {"y": str(_HEIGHT * number), "width": str(_WIDTH), "height": str(_HEIGHT)}
        image.append(part)
    drawn: bytes = ET.tostring(image, xml_declaration=True, encoding="utf-8")
    return drawn


def _distribution(runs: Sequence[Measurement]) -> pygal.XY:
    chart = _chart("Latency by share of messages", "share of the messages", "ms")
    chart.x_labels = list(_LABELS)
    chart.x_value_formatter = lambda nines: _LABELS.get(nines, f"{1 - 10**-nines:.3%}")
    for run in runs:
        values = quantiles(run.counts, (1 - 10.0**-_NINES).tolist())
        chart.add(run.label, list(zip(_NINES.tolist(), values, strict=bool(values))))
    return chart


def _throughput(runs: Sequence[Measurement]) -> pygal.XY:
    chart = _chart("Delivered over time", _TIME, "messages per second")
    for run in runs:
        chart.add(run.label, [(sample.at, sample.delivered) for sample in run.samples])
    return chart


def _over_time(runs: Sequence[Measurement]) -> pygal.XY:
    chart = _chart("Latency p99 over time", _TIME, "ms")
    for run in runs:
        chart.add(
            run.label, [(sample.at, sample.p99) for sample in run.samples if sample.p99 is not None]
        )
    return chart


def _chart(title: str, x_title: str, unit: str) -> pygal.XY:
    return pygal.XY(
        title=title,
        x_title=x_title,
        y_title=unit,
        width=_WIDTH,
        height=_HEIGHT,
        show_dots=False,
        stroke_style={"width": 2},
        include_x_axis=True,
        legend_at_bottom=False,
        style=CleanStyle,
        # pygal's default script comes from another host.
        js=(),
    )
