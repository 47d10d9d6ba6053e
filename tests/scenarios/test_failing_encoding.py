"""Failings of the earlier server in encoding, by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from odin_ws.hub import packing
from odin_ws.protocol.encoder import Encoded, Pack, encode_steps
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.wire_format import WireFormat
from odin_ws.steps import Steps
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import RawClient


async def test_failing_28_message_is_encoded_once_for_all_subscribers(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 subscribers of one channel share one encoding of each write."""
    encoded: list[int] = []

    def counting(
        messages: Sequence[ChannelMessage],
        form: WireFormat,
        pack: Pack | None = None,
        **options: Any,
    ) -> Steps[Encoded]:
        encoded.append(len(messages))
        return encode_steps(messages, form, pack, **options)

    monkeypatch.setattr(packing, "encode_steps", counting)
    clients = [await RawClient.open(odin_scenario) for _ in range(50)]
    for client in clients:
        await client.subscribe("BTC.trade")
    for _ in range(3):
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(1)
    assert encoded == [1, 1, 1]
    assert len({(await client.next()).payload for client in clients}) == 1
