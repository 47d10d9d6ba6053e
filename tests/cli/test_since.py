"""`--since`: a duration or a time."""

from __future__ import annotations

import time

import click
import pytest

from odin_ws.cli.since import Since


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("0.5h", 1800), ("2d", 172_800)]
)
def test_duration_counts_back_from_now(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duration is subtracted from the current time."""
    monkeypatch.setattr(time, "time", lambda: 1_767_609_600.0)
    assert Since().convert(text, None, None) == int((1_767_609_600 - seconds) * 1000)


def test_number_is_epoch_milliseconds() -> None:
    """A bare number is epoch milliseconds."""
    assert Since().convert("1767609600123", None, None) == 1_767_609_600_123


@pytest.mark.parametrize("text", ["", "m", "-10m", "10 m", "1e3s", "yesterday", "9" * 16])
def test_other_formats_are_rejected(text: str) -> None:
    """Ambiguous values are usage errors."""
    with pytest.raises(click.BadParameter, match="epoch ms"):
        Since().convert(text, None, None)
