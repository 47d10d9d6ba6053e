"""`--since`: how long ago, or when."""

from __future__ import annotations

import time

import click
import pytest

from odin_ws.cli.since import Since


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("0.5h", 1800), ("2d", 172_800)]
)
def test_an_age(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts back from now."""
    monkeypatch.setattr(time, "time", lambda: 1_767_609_600.0)
    assert Since().convert(text, None, None) == int((1_767_609_600 - seconds) * 1000)


def test_a_time() -> None:
    """A bare number is epoch milliseconds."""
    assert Since().convert("1767609600123", None, None) == 1_767_609_600_123


@pytest.mark.parametrize("text", ["", "m", "-10m", "10 m", "1e3s", "yesterday", "9" * 16])
def test_nothing_else(text: str) -> None:
    """What could be meant otherwise is rejected."""
    with pytest.raises(click.BadParameter, match="epoch ms"):
        Since().convert(text, None, None)
