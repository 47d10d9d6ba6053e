"""Autobahn's test suite, without the cases that take megabytes."""

from __future__ import annotations

from tests.autobahn.suite import NOT_OFFERED, run_suite


async def test_the_base_protocol_passes() -> None:
    """Framing, pings, reserved bits, fragments, UTF-8 and closing are as RFC 6455 has them."""
    results = await run_suite(exclude=("9.*", *NOT_OFFERED))
    assert len(results) > 200
    assert {one.case_id: one.result + one.result_close for one in results if not one.passed} == {}
