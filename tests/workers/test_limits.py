"""Connection limits are divided among workers without a remainder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odin_ws.settings import Settings
from odin_ws.workers.limits import max_worker_connections, worker_settings


@given(st.integers(1, 64), st.integers(0, 100_000))
def test_shares_sum_to_the_limit(workers: int, more: int) -> None:
    """The shares differ by at most one, and each is at least one."""
    settings = Settings(ws_workers=workers, ws_max_connections=workers + more)
    shares = [worker_settings(settings, n).ws_max_connections for n in range(1, workers + 1)]
    assert sum(shares) == settings.ws_max_connections
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1
    assert max(shares) == max_worker_connections(settings)


def test_other_settings_are_not_divided() -> None:
    """Each worker reads all partitions and keeps the whole history."""
    settings = Settings(ws_workers=3, ws_max_connections=12)
    assert worker_settings(settings, 2) == Settings(ws_workers=3, ws_max_connections=4)
