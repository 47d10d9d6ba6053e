"""The short form of `make chaos`: two instances are restarted and killed, and so is their broker.

With HAProxy the clients go through it, and some of them through a proxy of ours before it.
Without, all of them go through ours, which leads to the instances in turn: it passes by the ports
that reject, but knows nothing of their health.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import SHORT as FAULTS
from tests.chaos.plan import SHORT as PLAN
from tests.chaos.run import run_faults
from tests.integration import kafka


@pytest.mark.timeout(180)
async def test_nobody_loses_anything(tmp_path: Path) -> None:
    """Forty clients receive each record once and in order, whatever is restarted under them."""
    kafka.libs()
    outcome = await run_faults(PLAN, FAULTS, tmp_path, print)
    assert outcome.assessment.good, "\n".join(outcome.assessment.problems)
    assert outcome.left == 0
