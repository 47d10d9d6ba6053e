"""A limit of descriptors is divided: some are reserved, the rest is for clients."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.cli.descriptors import TooFewDescriptors, plan_descriptors
from odin_ws.settings import Settings
from odin_ws.workers.limits import max_worker_connections


def test_a_high_limit_changes_nothing() -> None:
    """As many as are needed, with those that are reserved."""
    settings = Settings()
    plan = plan_descriptors(settings, 1 << 20)
    assert (plan.settings, plan.warnings) == (settings, ())
    assert plan.limit == 12_000 + 2048 + 256
    assert plan.connections == 12_000


def test_a_low_limit_lowers_connections_and_callers_with_a_warning_each() -> None:
    """Each names the setting, both numbers, and what to raise."""
    plan = plan_descriptors(Settings(ws_max_connections=5000), 1000)
    assert plan.settings.ws_max_pending_handshakes == 186
    assert plan.connections == plan.settings.ws_max_connections == 558
    connections, pending = plan.warnings
    assert connections.startswith("WS_MAX_CONNECTIONS=5000 is lowered to 558: ")
    assert pending.startswith("WS_MAX_PENDING_HANDSHAKES=2048 is lowered to 186: ")
    assert "limit of descriptors is 1000" in connections
    assert "ulimit -n" in connections


def test_a_limit_that_leaves_nothing_is_an_error() -> None:
    """The one that is too low, and what is needed."""
    with pytest.raises(TooFewDescriptors, match="is 63 and 64 are needed"):
        plan_descriptors(Settings(), 63)


@given(
    hard=st.integers(64, 1 << 20),
    connections=st.integers(256, 1 << 20),
    pending=st.integers(1, 1 << 20),
    workers=st.integers(1, 256),
)
def test_a_plan_never_exceeds_the_limit(
    hard: int, connections: int, pending: int, workers: int
) -> None:
    """Nor what was asked for; and there is always room for somebody in every worker."""
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


def test_soft_limit_is_raised_as_far_as_the_settings_need_it() -> None:
    """A shell gives 1,024 where the system allows more: nobody has to know."""
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
