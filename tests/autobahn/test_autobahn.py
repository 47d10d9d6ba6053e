"""Autobahn's test suite, without the cases that take megabytes or many messages."""

from __future__ import annotations

from tests.autobahn.suite import run_suite


async def test_the_base_protocol_passes() -> None:
    """Framing, pings, reserved bits, fragments, UTF-8 and closing are as RFC 6455 has them."""
    results = await run_suite(exclude=("9.*", "12.*", "13.*"))
    assert len(results) > 200
    assert {one.case_id: one.result + one.result_close for one in results if not one.passed} == {}


async def test_compression_passes() -> None:
    """Each kind of offer, with messages of 16 bytes and of 8 KiB, whole and in fragments."""
    cases = ["12.*.1", "12.*.10", "12.*.18", "13.*.1", "13.*.10", "13.*.18"]
    results = await run_suite(cases)
    assert len(results) > 25
    assert {one.case_id: one.result + one.result_close for one in results if not one.passed} == {}
