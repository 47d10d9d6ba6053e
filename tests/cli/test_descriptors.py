"""File descriptors are divided between clients and a reserve."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.cli.descriptors import TooFewDescriptors, plan_descriptors
from odin_ws.settings import Settings
from odin_ws.workers.limits import max_worker_connections


def test_high_limit_keeps_settings() -> None:
    """The plan needs connections, pending handshakes and the reserve."""
    settings = Settings()
    plan = plan_descriptors(settings, 1 << 20)
    assert (plan.settings, plan.warnings) == (settings, ())
    assert plan.limit == 12_000 + 2048 + 256
    assert plan.connections == 12_000


def test_low_limit_lowers_settings_with_a_warning_each() -> None:
    """A warning names the setting, both values, and what to raise."""
    plan = plan_descriptors(Settings(ws_max_connections=5000), 1000)
    assert plan.settings.ws_max_pending_handshakes == 186
    assert plan.connections == plan.settings.ws_max_connections == 558
    connections, pending = plan.warnings
    assert connections.startswith("WS_MAX_CONNECTIONS=5000 is lowered to 558: ")
    assert pending.startswith("WS_MAX_PENDING_HANDSHAKES=2048 is lowered to 186: ")
    assert "limit of file descriptors is 1000" in connections
    assert "ulimit -n" in connections


def test_limit_below_64_is_an_error() -> None:
    """The message has the limit and what is needed."""
    with pytest.raises(TooFewDescriptors, match="is 63, at least 64 are needed"):
        plan_descriptors(Settings(), 63)


@given(
    hard=st.integers(64, 1 << 20),
    connections=st.integers(256, 1 << 20),
    pending=st.integers(1, 1 << 20),
    workers=st.integers(1, 256),
)
def test_plan_stays_within_limit_and_settings(
    hard: int, connections: int, pending: int, workers: int
) -> None:
    """Each worker keeps room for at least one client."""
    settings = Settings(
        ws_max_connections=connections, ws_max_pending_handshakes=pending, ws_workers=workers
    )
    plan = plan_descriptors(settings, hard)
    used = (
        max_worker_connections(plan.settings)
        + plan.settings.ws_max_pending_handshakes
        + plan.reserve
    )
    assert used <= plan.limit <= hard
    assert workers <= plan.settings.ws_max_connections <= connections
    assert 1 <= plan.settings.ws_max_pending_handshakes <= pending
    assert plan.reserve >= 32
    assert bool(plan.warnings) == (plan.settings != settings)


def test_soft_limit_is_raised_to_what_settings_need() -> None:
    """A shell gives 1,024 where the system allows more."""
    program = (
        "import resource as r; from odin_ws.settings import Settings; "
        "from odin_ws.cli.descriptors import raise_descriptor_limit; "
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (100, hard)); "
        "settings = Settings(ws_max_connections=200, ws_max_pending_handshakes=10); "
        "plan = raise_descriptor_limit(settings); "
        "print(plan.limit, *r.getrlimit(r.RLIMIT_NOFILE), hard)"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    needed, soft, hard, before = map(int, printed.split())
    assert soft == needed == 200 + 10 + 256
    assert hard == before
