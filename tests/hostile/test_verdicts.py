"""The hostile run fails for each broken promise, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from odin_ws.bench.results import Latency, Measurement
from tests.bench.results_factory import measurement, sample
from tests.hostile.verdicts import Outcome, ServerState, report

MB = 1_000_000
CALM: Mapping[str, Mapping[str, int]] = {
    "rejected": {"bad_request": 900, "handshake_timeout": 1200},
    "closed": {"protocol_error": 40, "slow": 500},
    "rejected on the ops port": {"max_connections": 300},
    "errors": {"ws_errors_total": 0},
}
TRACEBACK = "Traceback (most recent call last):\n  File"
LOGGED = '{"event": "failed", "exception": [{"exc_type": "KeyError"}]}\n'


def part(label: str, *, p99: float = 60, lost: int = 0) -> Measurement:
    """One of the three measurements of a run."""
    return measurement(
        label=label,
        latency=Latency(20, 40, p99, 80, 90),
        problems={"lost": lost, "doubled": 0},
        samples=[sample(1, 120 * MB), sample(2, 140 * MB)],
    )


def outcome(**changes: Any) -> Outcome:
    """A run within every limit, but for the changes."""
    kept = Outcome(
        alone=part("alone"),
        beside=[part("beside bad ones", p99=120), part("once more", p99=119)],
        # Memory that the first hostile clients cause does not count as a leak.
        states=[ServerState(80 * MB, 0), ServerState(120 * MB, 0), ServerState(131 * MB, 0)],
        counts=CALM,
        log='{"event": "serving"}\n',
    )
    return attrs.evolve(kept, **changes)


def test_run_within_all_limits_breaks_no_promise() -> None:
    """p99 may double and memory may grow by a tenth; hostile clients are rejected and closed."""
    assert outcome().broken == []
    assert (
        outcome(
            states=[ServerState(80 * MB, 7), ServerState(120 * MB, 7), ServerState(90 * MB, 0)]
        ).broken
        == []
    )


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"alone": part("alone", lost=3)}, "alone: 3 lost"),
        (
            {"beside": [part("beside bad ones", lost=1), part("once more")]},
            "beside bad ones: 1 lost",
        ),
        ({"beside": [part("beside bad ones"), part("once more", lost=2)]}, "once more: 2 lost"),
        ({"alone": measurement(label="alone", latency=None)}, "alone: nothing was received"),
        (
            {"beside": [part("beside bad ones"), measurement(label="once more", latency=None)]},
            "once more: nothing was received",
        ),
        (
            {"beside": [part("beside bad ones", p99=126), part("once more")]},
            "p99 is 2.1 times that without bad ones",
        ),
        (
            {"beside": [part("beside bad ones"), part("once more", p99=600)]},
            "p99 is 10.0 times that without bad ones",
        ),
        (
            {
                "states": [
                    ServerState(80 * MB, 0),
                    ServerState(100 * MB, 0),
                    ServerState(111 * MB, 0),
                ]
            },
            "memory has grown by 11% between the first time and the second",
        ),
        (
            {
                "states": [
                    ServerState(80 * MB, 0),
                    ServerState(120 * MB, 0),
                    ServerState(120 * MB, 4),
                ]
            },
            "4 connections are left",
        ),
        ({"proxied": 1200}, "none of 1200 connections of one proxied client was rejected"),
        (
            {"on_ops_port": 120, "counts": {**CALM, "rejected on the ops port": {}}},
            "none of 120 clients of the ops port was rejected",
        ),
        ({"log": TRACEBACK}, "1 tracebacks in the log, {'ws_errors_total': 0}"),
        (
            {"counts": {**CALM, "errors": {"ws_errors_total": 2}}},
            "0 tracebacks in the log, {'ws_errors_total': 2}",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_broken_promise_is_reported(changes: Mapping[str, Any], violation: str) -> None:
    """It is the only one, and names the measurement."""
    assert outcome(**changes).broken == [violation]


def test_limited_proxied_client_breaks_no_promise() -> None:
    """A client with no more connections than an address may have need not be rejected."""
    rejected = {"rejected": {"max_connections_per_ip": 1}}
    assert outcome(proxied=1200, counts={**CALM, **rejected}).broken == []
    assert outcome(proxied=1000).broken == []


def test_ops_port_that_rejects_some_clients_breaks_no_promise() -> None:
    """It serves 64 at a time."""
    assert outcome(on_ops_port=120).broken == []
    calm = {**CALM, "rejected on the ops port": {}}
    assert outcome(on_ops_port=64, counts=calm).broken == []


def test_exceptions_in_json_lines_count_as_tracebacks() -> None:
    """The server logs JSON: it prints no Python tracebacks of its own."""
    assert outcome(log=LOGGED * 3 + TRACEBACK).tracebacks == 4
    assert outcome(log=LOGGED).broken == ["1 tracebacks in the log, {'ws_errors_total': 0}"]


def test_several_broken_promises_are_all_reported() -> None:
    """No violation hides another one, and each problem of a measurement has its own sentence."""
    problems = {"lost": 2, "doubled": 5, "closed": 0}
    broken = outcome(
        beside=[
            measurement(label="beside bad ones", problems=problems),
            part("once more", p99=121),
        ],
        states=[ServerState(80 * MB, 0), ServerState(100 * MB, 0), ServerState(150 * MB, 1)],
        log=TRACEBACK * 2,
    ).broken
    assert broken == [
        "beside bad ones: 2 lost",
        "beside bad ones: 5 doubled",
        "p99 is 2.0 times that without bad ones",
        "memory has grown by 50% between the first time and the second",
        "1 connections are left",
        "2 tracebacks in the log, {'ws_errors_total': 0}",
    ]


def test_report_lists_every_measurement_and_reasons_by_count() -> None:
    """The figures can be copied into docs/security.md."""
    lines = list(report(outcome()))
    assert [line.split("  ")[0] for line in lines[1:4]] == ["alone", "beside bad ones", "once more"]
    assert lines[4] == (
        "memory before, after, after once more: 80.0 MB, 120.0 MB, 131.0 MB; at most 140.0 MB"
    )
    assert lines[5:] == [
        "connections left: 0; tracebacks: 0",
        "rejected: 1200 handshake_timeout, 900 bad_request",
        "closed: 500 slow, 40 protocol_error",
        "rejected on the ops port: 300 max_connections",
    ]
