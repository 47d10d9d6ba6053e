"""Autobahn's test suite, without the cases that take megabytes or many messages."""

from __future__ import annotations

import pytest

from tests.autobahn.suite import run_suite


async def test_base_protocol_cases_pass() -> None:
    """Framing, pings, reserved bits, fragments, UTF-8 and closing follow RFC 6455."""
    results = await run_suite(exclude=("9.*", "12.*", "13.*"))
    assert len(results) > 200
    assert {
        result.case_id: result.result + result.result_close
        for result in results
        if not result.passed
    } == {}


# The suite does not close the files of its texts.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.timeout(300)
async def test_compression_cases_pass() -> None:
    """Each kind of text and offer passes, with 1,000 messages of 256 bytes."""
    results = await run_suite(["12.*.3", "13.*.3"])
    assert len(results) == 12
    assert {
        result.case_id: result.result + result.result_close
        for result in results
        if not result.passed
    } == {}
