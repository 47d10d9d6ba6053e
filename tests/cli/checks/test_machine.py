"""Limits of the machine are compared with what the settings allow."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from odin_ws.cli.checks.findings import Findings, Outcome
from odin_ws.cli.checks.machine import (
    check_cores,
    check_descriptors,
    check_machine,
    check_memory,
)
from odin_ws.settings import Settings
from tests.cli.checks.found import found, only

GIB = 1 << 30


@pytest.mark.parametrize(
    ("hard", "outcomes"),
    [
        (100_000, [Outcome.OK]),
        (1 << 30, [Outcome.OK]),
        (4096, [Outcome.WARNING, Outcome.WARNING]),
        (10, [Outcome.FAILED]),
    ],
)
def test_descriptors(hard: int, outcomes: list[Outcome]) -> None:
    """Each limit that the server would lower is a warning; too few for anything is a failure."""
    findings = found(partial(_descriptors, hard=hard))
    assert [finding.outcome for finding in findings] == outcomes


def _descriptors(findings: Findings, hard: int) -> None:
    check_descriptors(findings, Settings(), hard)


@pytest.mark.parametrize(
    ("settings", "allowed", "outcome", "text"),
    [
        ({}, 4 * GIB, Outcome.OK, "4096 MiB allowed"),
        ({}, GIB // 4, Outcome.WARNING, "256 MiB are allowed"),
        ({"ws_memory_limit": GIB // 4}, 4 * GIB, Outcome.WARNING, "256 MiB are allowed"),
        ({"ws_memory_limit": 8 * GIB}, 4 * GIB, Outcome.WARNING, "WS_MEMORY_LIMIT is 8192 MiB"),
        ({"ws_workers": 8}, GIB, Outcome.WARNING, "WS_HISTORY_BYTES"),
    ],
)
def test_memory(settings: dict[str, Any], allowed: int, outcome: Outcome, text: str) -> None:
    """History and snapshots of each worker, and all connections, have to fit."""
    findings = found(partial(_memory, settings=Settings(**settings), allowed=allowed))
    assert text in only(findings, "memory", outcome).text


def _memory(findings: Findings, settings: Settings, allowed: int) -> None:
    check_memory(findings, settings, allowed)


@pytest.mark.parametrize(
    ("workers", "cores", "outcome"),
    [(1, 0.5, Outcome.OK), (2, 2, Outcome.OK), (3, 2, Outcome.WARNING)],
)
def test_cores(workers: int, cores: float, outcome: Outcome) -> None:
    """A worker uses one core at most."""
    findings = found(partial(_cores, settings=Settings(ws_workers=workers), cores=cores))
    only(findings, "cores", outcome)


def _cores(findings: Findings, settings: Settings, cores: float) -> None:
    check_cores(findings, settings, cores)


def test_this_machine_is_checked() -> None:
    """One finding about each at least."""
    findings = found(partial(_machine))
    assert {finding.check for finding in findings} == {"file descriptors", "memory", "cores"}


def _machine(findings: Findings) -> None:
    check_machine(findings, Settings())
