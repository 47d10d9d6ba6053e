"""The work for one more subscriber or connect does not grow unnoticed."""

from __future__ import annotations

import pytest

from tests.bench.hot_path import CASES, Case, Cost, cost, stored, version

# Counts are exact; smaller changes than 3% are allowed.
TOLERANCE = 1.03


@pytest.mark.skipif(version() not in stored(), reason=f"nothing is stored for {version()}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cost_is_within_stored_cost(case: Case) -> None:
    """One more subscriber costs no more instructions and calls than stored."""
    if case.name not in stored()[version()]:
        pytest.skip(f"nothing is stored for {version()}")
    limit = Cost(**stored()[version()][case.name])

    found = cost(case)

    assert found.instructions <= limit.instructions * TOLERANCE
    assert found.calls <= limit.calls * TOLERANCE


def test_counts_are_reproducible() -> None:
    """The same code has the same counts under any load of the machine."""
    first, second = cost(CASES[0]), cost(CASES[0])

    assert second.instructions == pytest.approx(first.instructions, rel=0.01)
    assert second.calls == pytest.approx(first.calls, rel=0.01)
