"""The table of docs/sizing.md has the results of its formula."""

from __future__ import annotations

import math

from odin_ws.settings import Settings
from tests.docs.pages import page, read_table

WRITE_SECONDS = 8e-6
RECORD_SECONDS = 10e-6
RECORDS = 1000
MESSAGE_BYTES = 430
UTILIZATION = 0.6
BASE_BYTES = 60e6
CONNECTION_BYTES = 14e3


def row(subscribers: int, rate: int) -> list[str]:
    """A row of the table, by the page's formula."""
    settings = Settings()
    writes = subscribers * min(rate, settings.ws_max_broadcast_rate)
    processes = math.ceil(subscribers / settings.ws_max_connections)
    while True:
        cores = writes * WRITE_SECONDS + RECORDS * RECORD_SECONDS * (processes + 1)
        if cores / UTILIZATION <= processes:
            break
        processes += 1
    memory = BASE_BYTES + CONNECTION_BYTES * subscribers / processes
    memory += settings.ws_history_bytes + settings.ws_snapshot_bytes
    return [
        f"{subscribers:,}",
        str(rate),
        f"{writes:,.0f}",
        f"{cores:.2f}",
        str(processes + 1),
        f"{memory / 1e6:.0f} MB",
        f"{subscribers * rate * MESSAGE_BYTES * 8 / 1e6:,.0f} Mbit/s",
    ]


def test_table_follows_the_formula() -> None:
    """Each row has the results for its subscribers and its rate, with the default settings."""
    for shown in read_table(page("docs/sizing.md"), "sizing"):
        assert shown == row(int(shown[0].replace(",", "")), int(shown[1]))
