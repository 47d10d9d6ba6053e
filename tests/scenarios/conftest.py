"""Fixtures of the scenarios; the scenario itself is odin_ws.testing.plugin's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.container import Container

__all__ = ["container"]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """The container that servers started after this find themselves in."""
    monkeypatch.setattr("odin_ws.assembly.own_cgroup", lambda: tmp_path)
    return Container(tmp_path)
