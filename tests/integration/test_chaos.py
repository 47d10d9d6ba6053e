"""The short form of `make chaos`: two instances and their broker are restarted and killed.

With HAProxy, clients connect to it, some of them through the fault proxy. Without, all connect to
the fault proxy, which uses the instances in turn: it skips ports that reject, but knows nothing of
health.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import SHORT as FAULTS
from tests.chaos.plan import SHORT as PLAN
from tests.chaos.run import run_faults
from tests.integration import kafka


@pytest.mark.timeout(180)
async def test_no_client_loses_a_record(tmp_path: Path) -> None:
    """Forty clients receive each record once and in order, whatever is restarted."""
    kafka.libs()
    outcome = await run_faults(PLAN, FAULTS, tmp_path, print)
    assert outcome.assessment.good, "\n".join(outcome.assessment.problems)
    assert outcome.left == 0
