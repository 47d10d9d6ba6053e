"""The publisher's list is valid only if the broker acknowledged everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.ledger import pack
from tests.chaos.publisher import Acknowledged, Mismatch, load_ledger, save_list, streams

RATES = {"trade": 10.0, "liquidity": 0.5}


def test_streams_publish_at_different_times() -> None:
    """Each token has a channel per category; no two of one category publish at the same time."""
    found = streams(["T00", "T01"], RATES)
    assert [
        (message.channel, message.topic, message.key, message.rate, message.phase)
        for message in found
    ] == [
        ("T00.trade", "odin.trades", b"T00", 10, 0),
        ("T01.trade", "odin.trades", b"T01", 10, 0.05),
        ("T00.liquidity", "odin.liquidity", b"T00", 0.5, 0),
        ("T01.liquidity", "odin.liquidity", b"T01", 0.5, 1),
    ]


def save_two_records(directory: Path, **changes: Any) -> None:
    """Write the list of two records, with changes that may make it invalid."""
    noted = Acknowledged()
    for stream, position in [(0, pack(0, 3, 7)), (1, pack(0, 4, 8))]:
        noted.streams.append(stream)
        noted.positions.append(changes.get("position", position))
        noted.times.append(1.5)
    noted.failed.extend(changes.get("failed", []))
    channels = ["T00.trade", "T01.trade"]
    save_list(directory, channels, noted, changes.get("sent", 2), changes.get("left", 0))


def test_complete_list_becomes_a_ledger(tmp_path: Path) -> None:
    """Clients must receive the acknowledged records."""
    save_two_records(tmp_path)
    ledger = load_ledger(tmp_path)
    assert len(ledger) == 2
    assert ledger.expected(["T01.trade"], {}) == {pack(0, 4, 8)}
    assert ledger.published(pack(0, 3, 7)) == 1.5


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sent": 3}, id="one not acknowledged"),
        pytest.param({"left": 1}, id="one still waiting"),
        pytest.param({"failed": ["no"]}, id="one rejected"),
        pytest.param({"position": pack(0, 3, 7)}, id="one offset twice"),
    ],
)
def test_incomplete_list_raises_mismatch(tmp_path: Path, change: dict[str, Any]) -> None:
    """If Kafka may hold other records than the list, the run has no outcome."""
    save_two_records(tmp_path, **change)
    with pytest.raises(Mismatch):
        load_ledger(tmp_path)
