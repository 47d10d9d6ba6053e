"""The merged console report of several workers."""

from __future__ import annotations

from typing import Any

from odin_ws.workers.console_merge import merge_samples, merge_state, merge_tables
from tests.workers.test_health import report

FEED = {"status": "live", "seconds": 5.0, "reason": "", "held_partitions": 0}


def samples(times: list[int], gauges: Any, counts: Any = None) -> dict[str, Any]:
    """Return samples in the form of `Series.after`."""
    return {"t": times, "gauges": gauges, "counts": counts or {}}


def test_connections_are_summed_and_lag_is_the_worst() -> None:
    """Each worker has its own clients and reads every partition."""
    one = samples([1, 2], {"connections": [3, 4], "lag:a": [10, 0], "records_in:a": [5, 5]})
    two = samples([1, 2], {"connections": [1, 1], "lag:a": [2, 7], "records_in:a": [5, 6]})
    assert merge_samples([one, two], 0)["gauges"] == {
        "connections": [4, 5],
        "lag:a": [10, 7],
        "records_in:a": [5, 6],
    }


def test_newest_second_waits_for_every_worker() -> None:
    """Without its sample the sum of the newest second would be too small."""
    one = samples([1, 2, 3], {"connections": [3, 3, 3]})
    two = samples([1, 2], {"connections": [1, 1]})
    assert merge_samples([one, two], 0)["t"] == [1, 2]
    assert merge_samples([one, two], 1)["gauges"] == {"connections": [4]}


def test_exited_worker_does_not_delay_the_others() -> None:
    """Its earlier samples stay in the sums."""
    one = samples([1, 2, 3, 4, 5, 6], {"connections": [1] * 6})
    gone = samples([1, 2], {"connections": [2, 2]})
    found = merge_samples([one, gone], 0)
    assert found["t"] == [1, 2, 3, 4, 5, 6]
    assert found["gauges"]["connections"] == [3, 3, 3, 3, 1, 1]


def test_missing_sample_of_a_gauge_repeats_the_last_value() -> None:
    """A missing count is 0."""
    one = samples([1, 2, 3], {"connections": [1, 1, 1]}, {"closed:slow": [1, 0, 2]})
    two = samples([1, 3], {"connections": [5, 5]}, {"closed:slow": [4, 0]})
    found = merge_samples([one, two], 0)
    assert found["gauges"]["connections"] == [6, 6, 6]
    assert found["counts"]["closed:slow"] == [5, 0, 2]


def test_unknown_values_are_left_out() -> None:
    """The merged value is null only if no worker has one."""
    one = samples([1, 2], {"age_p99_ms": [None, 20.0]})
    two = samples([1, 2], {"age_p99_ms": [None, None], "memory_bytes": [7, None]})
    assert merge_samples([one, two], 0)["gauges"] == {
        "age_p99_ms": [None, 20.0],
        "memory_bytes": [7, None],
    }
    assert merge_samples([], 0)["t"] == []


def state(**other: Any) -> dict[str, Any]:
    """Return the state of a healthy worker."""
    topic = {"topic": "a", "category": "b", "partitions": 3, "lag": 1, "problems": []}
    usual = {
        "now": 10.0,
        "state": "serving",
        "not_ready": None,
        "drain": None,
        "feed": FEED,
        "topics": [topic | {"status": "live"}],
        "health": report(),
    }
    return usual | other


async def test_state_is_of_serving_workers_and_feed_of_the_worst() -> None:
    """A restarting worker does not make the merged state `starting`."""
    stalled = FEED | {"status": "stalled"}
    topic = state()["topics"][0] | {"status": "stalled", "lag": 9, "problems": ["a 1: no leader"]}
    found = merge_state(
        {
            1: state(),
            2: state(state="starting", not_ready="kafka: x", feed=stalled, topics=[topic]),
        },
        {},
    )
    assert (found["state"], found["not_ready"]) == ("serving", None)
    assert found["feed"]["status"] == "stalled"
    assert found["topics"] == [topic]


async def test_worker_without_response_is_a_warning() -> None:
    """With advice; without any response the report has only this warning."""
    found = merge_state({1: state()}, {2: "does not respond"})
    assert [one["text"] for one in found["advice"]] == ["worker 2: does not respond"]
    none = merge_state({}, {1: "does not respond"})
    assert none["advice"][0]["level"] == "error"
    assert (none["topics"], none["feed"]) == ([], None)


async def test_drains_are_summed() -> None:
    """The merged drain ends with the last worker's."""
    drain = {"begun_with": 10, "left": 4, "seconds": 2.0, "seconds_at_most": 9.0}
    found = merge_state(
        {1: state(drain=drain), 2: state(drain=drain | {"left": 0, "seconds": 3.0}), 3: state()}, {}
    )
    assert found["drain"] == {
        "begun_with": 20,
        "left": 4,
        "seconds": 3.0,
        "seconds_at_most": 9.0,
    }


def tables(**other: Any) -> dict[str, Any]:
    """Return the tables of a worker with one client."""
    client = {"peer": "a", "backlog_bytes": 0, "connected_seconds": 1}
    usual: dict[str, Any] = {
        "clients": {"totals": {"connections": 1}, "clients": [client]},
        "channels": {"seconds": 10, "messages": 5, "rows": []},
        "patterns": [{"pattern": "*.trade", "subscribers": 2}],
        "counts": {"closed": {"slow": 1}, "rejected": {}},
    }
    return usual | other


def test_tables_are_added_up_by_name() -> None:
    """Subscribers of a channel are summed; its rate is the same in all workers."""
    row = {"channel": "BTC.trade", "bytes_per_second": 100, "subscribers": 1}
    channels = [
        {"seconds": 10, "messages": 5, "rows": [row | {"messages_per_second": rate}]}
        for rate in (3.0, 4.0)
    ]
    found = merge_tables({1: tables(channels=channels[0]), 2: tables(channels=channels[1])}, 20)
    assert found["channels"]["rows"] == [row | {"messages_per_second": 4.0, "subscribers": 2}]
    assert found["patterns"] == [{"pattern": "*.trade", "subscribers": 4}]
    assert found["counts"] == {"closed": {"slow": 2}, "rejected": {}}
    assert [client["worker"] for client in found["clients"]["clients"]] == [1, 2]
    assert len(merge_tables({1: tables(patterns=tables()["patterns"] * 3)}, 20)["patterns"]) == 1
