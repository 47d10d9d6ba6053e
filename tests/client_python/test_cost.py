"""CPU of one message in the core: an application has little time for 1,000 a second."""

from __future__ import annotations

import gc
import random
import time

import orjson
import pytest

from odin_ws.protocol.frames import text_frame
from odin_ws_client import Message
from odin_ws_client.core.conversation import Conversation
from odin_ws_client.core.counts import Counts
from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.reconnector import Reconnector
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.subscription_set import SubscriptionSet
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.url import read_url
from tests.client_python.fake import CATEGORIES, TRADES, accept_header, message_text

MESSAGES = 5000

# 5% of a core at 1,000 messages a second. A free machine needs a fifth of it.
MAX_SECONDS = 50e-6


def subscribed() -> Conversation:
    """A conversation whose subscription has taken effect."""
    reconnector = Reconnector(
        address=read_url("ws://odin.test/ws"),
        credentials=Credentials(None),
        subscriptions=SubscriptionSet([TRADES], OffsetTracker()),
        requests=Requests(),
        reconnect=True,
        timing=Timing(10, 10, 0.2, 15),
        rng=random.Random(1),  # noqa: S311 -- jitter
        counts=Counts(),
    )
    conversation = reconnector.begin(None, 0)
    ack = {"type": "subscription_ack", "id": 1, "subscribed": ["*.trade"], "categories": CATEGORIES}
    response = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%b\r\n"
    head = response % accept_header(conversation.data_to_send())
    conversation.receive(head + text_frame(orjson.dumps(ack)), 0)
    assert conversation.session.accepted
    return conversation


@pytest.fixture
def only_own_objects() -> None:
    """Keep the collector from objects of other tests, which take it 0.3 s after thousands."""
    gc.freeze()


@pytest.mark.usefixtures("only_own_objects")
@pytest.mark.parametrize("together", [1, 50])
def test_cpu_per_message_is_below_its_limit(together: int) -> None:
    """From the bytes of the socket to the item, single or in batches."""
    conversation = subscribed()
    frames = []
    for first in range(0, MESSAGES, together):
        numbers = range(first, first + together)
        texts = [message_text(n + 1, f"0-{n}", padding="x" * 300) for n in numbers]
        if together > 1:
            messages = ",".join(texts)
            texts = [f'{{"type":"batch","seq":{first + 1},"messages":[{messages}]}}']
        frames.append(text_frame(texts[0].encode()))
    began = time.process_time()
    items = [item for frame in frames for item in conversation.receive(frame, 1)]
    spent = time.process_time() - began
    assert len(items) == MESSAGES
    assert all(isinstance(item, Message) for item in items)
    assert spent / MESSAGES < MAX_SECONDS
