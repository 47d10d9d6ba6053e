"""The JavaScript client subscribes and unsubscribes on a live connection to the real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from odin_ws.testing.memory_log import MemoryLog
from tests.client_js.follower import Follower, FollowerEvent, follow
from tests.client_js.instances import Instance, memory_log
from tests.client_js.test_fallback import BACKOFF
from tests.client_js.upgrade_blocking_proxy import blocking_proxy

BTC = {"channels": ["BTC.trade"]}


def publish(log: MemoryLog, number: int, *channels: str) -> None:
    """Publish one record to each channel."""
    for channel in channels:
        token, category = channel.split(".")
        topic = {"trade": "odin.trades", "balances": "odin.balances"}[category]
        value = {"type": "TEST", "timestamp": 0, "data": number}
        log.append(topic, token.encode(), json.dumps(value).encode())


async def response(
    follower: Follower, request: dict[str, Any]
) -> tuple[dict[str, Any], list[FollowerEvent]]:
    """What comes of a request, and the messages before that."""
    await follower.request(request)
    messages = []
    while (event := await follower.next_event()).kind != "answer":
        if event.kind == "message":
            messages.append(event)
    return event.item, messages


@pytest.mark.parametrize("fallback", [False, True], ids=["websocket", "sse"])
async def test_changed_subscription_is_resumed_without_a_gap(
    nursery: trio.Nursery,
    node: list[str],
    fallback: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A later subscription is resumed after a lost connection; an ended one is not."""
    log = memory_log()
    instance = Instance(log)
    publish(log, 0, "BTC.trade", "BTC.balances")
    async with blocking_proxy(await nursery.start(instance.run)) as proxy:
        proxy.refuses = fallback
        url = f"ws://{proxy.address}/ws"
        options: dict[str, Any] = {"backoff": BACKOFF, "fallback": fallback}
        async with follow(node, url, BTC, **options) as follower:
            while (await follower.next_event()).item["type"] != "subscription_ack":
                pass
            publish(log, 1, "BTC.trade", "BTC.balances")
            (first,) = await follower.messages(1)
            late = {"subscribe": {"channels": ["BTC.balances", "BTC.foo"]}}
            item, between = await response(follower, late)
            assert (item["subscribed"], between) == (["BTC.balances"], [])
            assert [rejection["code"] for rejection in item["rejected"]] == ["INVALID_CHANNEL"]
            publish(log, 2, "BTC.trade", "BTC.balances")
            second = await follower.messages(2)
            proxy.cut()
            publish(log, 3, "BTC.trade", "BTC.balances")
            third = await follower.messages(2)
            item, between = await response(follower, {"unsubscribe": BTC})
            assert (item["unsubscribed"], between) == (["BTC.trade"], [])
            item, _ = await response(follower, {"unsubscribe": BTC})
            assert item["code"] == "NOT_SUBSCRIBED"
            publish(log, 4, "BTC.trade", "BTC.balances")
            (last,) = await follower.messages(1)
            both = {"BTC.trade", "BTC.balances"}
            assert (first.item["channel"], last.item["channel"]) == ("BTC.trade", "BTC.balances")
            assert [one.item["data"]["data"] for one in (*second, *third)] == [2, 2, 3, 3]
            assert {one.item["channel"] for one in second} == both
            assert {one.item["channel"] for one in third} == both
            assert last.item["data"]["data"] == 4
            assert last.duplicates == 0
        assert (proxy.streams > 0) is fallback
    await instance.cancel()
