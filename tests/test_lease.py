"""A held value is returned once, however the block ends."""

from __future__ import annotations

import pytest

from odin_ws.lease import Lease


@pytest.mark.parametrize("error", [None, KeyError])
def test_value_is_returned_at_the_end_of_the_block(error: type[Exception] | None) -> None:
    """Not earlier, and an error propagates."""
    given: list[str] = []
    caught = None
    try:
        with Lease("place", lambda: given.append("back")) as value:
            assert (value, given) == ("place", [])
            if error is not None:
                raise error
    except KeyError as raised:
        caught = type(raised)
    assert (given, caught) == (["back"], error)
