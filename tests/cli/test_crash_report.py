"""The traceback of an exception that ends the process."""

from __future__ import annotations

import pytest

from odin_ws.cli.crash_report import print_crash


def test_crash_in_30_nurseries_shows_innermost_exception(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Python's own hook stops at depth 10."""
    crash: Exception = KeyError("the cause")
    for _ in range(30):
        crash = ExceptionGroup("Exceptions from Trio nursery", [crash])
    print_crash(type(crash), crash, None)
    assert "KeyError: 'the cause'" in capsys.readouterr().err
