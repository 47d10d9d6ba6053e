"""The sampler takes one sample per second of the service's counters."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.lifecycle import ServiceState
from odin_ws.ops.console.sampler import Sampler, quantile
from odin_ws.testing.scenario import Scenario

BEGAN = 1_800_000_000.0


def sampler_of(scenario: Scenario) -> Sampler:
    """Return a sampler whose wall clock follows Trio's clock."""
    began = trio.current_time()
    return Sampler(scenario.service, lambda: BEGAN + trio.current_time() - began)


async def samples(scenario: Scenario, seconds: float) -> dict[str, Any]:
    """Return the samples of the next seconds."""
    sampler = sampler_of(scenario)
    with trio.move_on_after(seconds):
        await sampler.run()
    return sampler.series.after(0)


async def test_rates_are_of_the_second_before(odin_scenario: Scenario) -> None:
    """Records by topic, messages sent and connections, at each whole second."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"])
    sampler = sampler_of(odin_scenario)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sampler.run)
        await trio.sleep(1.5)
        for price in range(10):
            odin_scenario.publish("BTC", "trade", {"price": price})
        await client.messages(10)
        await trio.sleep(1.6)
        nursery.cancel_scope.cancel()
    found = sampler.series.after(0)
    assert found["t"] == [BEGAN + 1, BEGAN + 2, BEGAN + 3]
    assert found["gauges"]["records_in:odin.trades"] == pytest.approx([0, 10, 0])
    assert found["gauges"]["records_in:odin.social"] == [0, 0, 0]
    assert found["gauges"]["messages_out"] == pytest.approx([0, 10, 0])
    assert found["gauges"]["connections"] == [1, 1, 1]


async def test_ends_and_rejections_are_counted_by_reason(odin_scenario: Scenario) -> None:
    """In the second of the event; a reason without events has no series."""
    client = await odin_scenario.connect()
    sampler = sampler_of(odin_scenario)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sampler.run)
        await trio.sleep(0.5)
        await client.command("subscribe", channels=["BTC.nothing"])
        await client.websocket.aclose()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert sampler.series.after(0)["counts"] == {
        "closed:client_closed": [1, 0],
        "errors:INVALID_CHANNEL": [1, 0],
    }


async def test_age_is_null_in_a_second_without_messages(odin_scenario: Scenario) -> None:
    """An age of 0 would look like a measured one."""
    found = await samples(odin_scenario, 2.5)
    assert str(found["gauges"]["age_p99_ms"]) == "[nan, nan]"


async def test_paused_process_has_one_sample_for_the_pause(odin_scenario: Scenario) -> None:
    """The counts of the pause become a rate over its whole length, not a peak."""
    sampler = sampler_of(odin_scenario)
    await trio.sleep(10)
    odin_scenario.service.hub.stats.messages_sent += 100
    sampler.sample()
    assert sampler.series.after(0)["gauges"]["messages_out"] == [10]


async def test_two_samples_in_a_second_are_one(odin_scenario: Scenario) -> None:
    """The counts of the second sample are added to the next second."""
    sampler = sampler_of(odin_scenario)
    await trio.sleep(1)
    sampler.sample()
    odin_scenario.service.hub.stats.messages_sent += 5
    await trio.sleep(0.5)
    sampler.sample()
    await trio.sleep(0.5)
    sampler.sample()
    assert sampler.series.after(0)["gauges"]["messages_out"] == [0, 5]


async def test_drain_is_measured_from_the_connections_before_it(odin_scenario: Scenario) -> None:
    """The page shows closed connections as a share of these."""
    await odin_scenario.connect()
    await odin_scenario.connect()
    sampler = sampler_of(odin_scenario)
    await trio.sleep(1)
    sampler.sample()
    assert sampler.drained_from is None
    odin_scenario.service.lifecycle.enter(ServiceState.DRAINING)
    await trio.sleep(1)
    sampler.sample()
    assert sampler.drained_from == 2


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 5),
        ([10, 10, 0], 0.5, 10),
        ([10, 10, 0], 0.75, 15),
        ([0, 0, 3], 0.99, 20),
        ([0, 4, 0], 0.99, 19.9),
    ],
)
def test_quantile_is_interpolated_within_its_bucket(
    counts: list[int], share: float, value: float | None
) -> None:
    """As in Prometheus; above the last bound the quantile is that bound."""
    found = quantile([10, 20], counts, share)
    assert found == (None if value is None else pytest.approx(value))
