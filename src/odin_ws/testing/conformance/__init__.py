"""Checks a client of the wire protocol, in any language: docs/own-client.md."""

from __future__ import annotations

from odin_ws.testing.conformance.cases import Case, Delivery, difference, read_cases
from odin_ws.testing.conformance.player import Outcome, Requests, Result, Run, play_case
from odin_ws.testing.conformance.program import run_program

__all__ = [
    "Case",
    "Delivery",
    "Outcome",
    "Requests",
    "Result",
    "Run",
    "difference",
    "play_case",
    "read_cases",
    "run_program",
]
