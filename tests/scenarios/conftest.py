"""Fixtures of the scenarios; `odin_scenario` is in odin_ws.testing.plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.container import Container

__all__ = ["container"]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """The container in which servers started after this fixture run."""
    monkeypatch.setattr("odin_ws.assembly.own_cgroup", lambda: tmp_path)
    return Container(tmp_path)
