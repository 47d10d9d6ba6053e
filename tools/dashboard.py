"""Writes deploy/grafana/odin-ws.json: the Grafana dashboard, from its rows and queries.

usage: python -m tools.dashboard
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.dashboard_rows import ROWS, Panel

__all__ = ["FILE", "dashboard", "text"]

FILE = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "odin-ws.json"

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

# Grafana's grid has 24 columns; three panels share a line.
WIDTH: Final = 8
HEIGHT: Final = 8
COLUMNS: Final = 24


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it from a file."""
    return {
        "uid": "odin-ws",
        "title": "odin-ws",
        "tags": ["odin-ws", "kafka", "websocket"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    several = {
        "type": "query",
        "datasource": DATASOURCE,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }
    found = {
        "instance": "label_values(ws_connections_active, instance)",
        "topic": "label_values(ws_kafka_lag_records, topic)",
    }
    return [
        source,
        *(
            several
            | {
                "name": name,
                "label": name.capitalize(),
                "definition": query,
                "query": {"query": query, "refId": name},
            }
            for name, query in found.items()
        ),
    ]


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
        }
        number, top = number + 1, top + 1
        for place, panel in enumerate(panels):
            line, column = divmod(place * WIDTH, COLUMNS)
            yield _chart(number, panel, column, top + line * HEIGHT)
            number += 1
        top += -(-len(panels) * WIDTH // COLUMNS) * HEIGHT


def _chart(number: int, panel: Panel, column: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column, "y": top},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}},
            "overrides": [
                {
                    "matcher": {"id": "byRegexp", "options": "/ limit$/"},
                    "properties": [
                        {"id": "custom.lineStyle", "value": {"dash": [8, 8], "fill": "dash"}},
                        {"id": "custom.fillOpacity", "value": 0},
                    ],
                }
            ],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> int:
    """Write the file."""
    FILE.write_text(text(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
