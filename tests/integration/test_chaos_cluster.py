"""The short form of `make chaos ARGS=--cluster`: faults of three brokers under two instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster.faults import SHORT as FAULTS
from tests.chaos.cluster.run import SHORT as SIZE
from tests.chaos.cluster.run import run_faults
from tests.integration.cluster import Cluster


@pytest.mark.timeout(300)
async def test_no_client_loses_a_record_over_three_brokers(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Eight clients have each record once and in order, or a report of its loss."""
    outcome = await run_faults(cluster, FAULTS, SIZE, tmp_path, print)
    wrong = {name: count for name, count in outcome.counts.items() if count}
    assert outcome.good, "\n".join([str(wrong), *outcome.problems])
