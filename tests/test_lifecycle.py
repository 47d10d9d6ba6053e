"""The service passes through its states in order, and never back."""

from __future__ import annotations

import itertools

import pytest

from odin_ws.lifecycle import Lifecycle, ServiceState


def test_states_come_in_order_and_may_be_left_out() -> None:
    """From each state, any later one can be entered, and no earlier one."""
    for first, second in itertools.product(ServiceState, repeat=2):
        lifecycle = Lifecycle()
        lifecycle.enter(first)
        if second >= first:
            lifecycle.enter(second)
            assert lifecycle.state is second
        else:
            with pytest.raises(AssertionError, match=second.name):
                lifecycle.enter(second)


@pytest.mark.parametrize(
    ("state", "is_draining", "is_closing"),
    [
        (ServiceState.STARTING, False, False),
        (ServiceState.SERVING, False, False),
        (ServiceState.DRAINING, True, False),
        (ServiceState.CLOSING, True, True),
        (ServiceState.STOPPED, True, True),
    ],
)
def test_draining_service_still_accepts_until_it_closes(
    state: ServiceState, *, is_draining: bool, is_closing: bool
) -> None:
    """Load balancers need time to notice the readiness."""
    lifecycle = Lifecycle()
    lifecycle.enter(state)
    assert (lifecycle.is_draining, lifecycle.is_closing) == (is_draining, is_closing)
