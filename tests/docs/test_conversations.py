"""docs/protocol.md and auth.md: what they show of a conversation is what a server says."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
import re

import pytest
from trio.testing import MockClock

from odin_ws.connection.disconnect_reasons import DisconnectReason
from tests.docs.asyncapi import AsyncApi, read_asyncapi
from tests.docs.conversations import Conversation, conversations, hold

PAGE = "docs/protocol.md"
PAGES = (PAGE, "docs/auth.md")

# The first one is the message's own, whatever type its record has.
KIND = re.compile(r'"type":"([^"]+)"')


class Schooled:
    """Watches a conversation with the document in hand."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api
        self._wrong: str | None = None

    def sent(self, text: str) -> None:
        """Remember what is wrong with a command."""
        self._wrong = self._api.problem(text, "receive")

    def received(self, text: str) -> None:
        """What is received is as described; a wrong command is answered with an error."""
        if text.startswith("close "):
            assert text.split()[1] in {str(close.value.code) for close in DisconnectReason}
            return
        assert self._api.problem(text, "send") is None, text
        if self._wrong is not None:
            assert json.loads(text)["type"] == "error", self._wrong
        self._wrong = None


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(one, id=f"{name} {number} {one.heading}")
        for name in PAGES
        for number, one in enumerate(conversations(name), 1)
    ],
)
async def test_a_conversation(conversation: Conversation, autojump_clock: MockClock) -> None:
    """A server answers as the page says, and as docs/asyncapi.yaml describes it."""
    await hold(conversation, Schooled(read_asyncapi()))


def test_every_answer_is_shown() -> None:
    """The page has an example of each command and of each kind of answer."""
    shown = {"→": set[str](), "←": set[str]()}
    for conversation in conversations(PAGE):
        for line in conversation.lines:
            mark, _, text = line.partition(" ")
            if mark in shown and (kind := KIND.search(text)) is not None:
                shown[mark].add(kind[1])
    api = read_asyncapi()
    assert shown["→"] == api.messages("receive").keys()
    assert shown["←"] == api.messages("send").keys()
