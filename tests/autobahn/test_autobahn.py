"""Autobahn's test suite, without the cases that take megabytes or many messages."""

from __future__ import annotations

import pytest

from tests.autobahn.suite import run_suite


async def test_the_base_protocol_passes() -> None:
    """Framing, pings, reserved bits, fragments, UTF-8 and closing are as RFC 6455 has them."""
    results = await run_suite(exclude=("9.*", "12.*", "13.*"))
    assert len(results) > 200
    assert {one.case_id: one.result + one.result_close for one in results if not one.passed} == {}


# The suite itself leaves the files open that it reads its texts from.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.timeout(300)
async def test_compression_passes() -> None:
    """Each kind of text and offer, with 1,000 messages of 256 bytes."""
    results = await run_suite(["12.*.3", "13.*.3"])
    assert len(results) == 12
    assert {one.case_id: one.result + one.result_close for one in results if not one.passed} == {}
