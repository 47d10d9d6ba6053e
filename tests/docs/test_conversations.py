"""Conversations in docs/protocol.md and docs/auth.md are what a server really sends."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
import re

import pytest
from trio.testing import MockClock

from odin_ws.connection.disconnect_reasons import DisconnectReason
from tests.docs.asyncapi import AsyncApi, read_asyncapi
from tests.docs.conversations import Conversation, conversations, play

PAGE = "docs/protocol.md"
PAGES = (PAGE, "docs/auth.md")

# The first `type` is the message's own, whatever the type of its record.
KIND = re.compile(r'"type":"([^"]+)"')


class SchemaObserver:
    """Compares the messages of a conversation with docs/asyncapi.yaml."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api
        self._wrong: str | None = None

    def sent(self, text: str) -> None:
        """Note what is wrong with a command."""
        self._wrong = self._api.problem(text, "receive")

    def received(self, text: str) -> None:
        """A received message matches its schema; a wrong command is answered with an error."""
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
async def test_server_responds_as_the_page_shows(
    conversation: Conversation, autojump_clock: MockClock
) -> None:
    """A server responds as the page shows, and as docs/asyncapi.yaml describes it."""
    await play(conversation, SchemaObserver(read_asyncapi()))


def test_every_kind_of_response_is_shown() -> None:
    """The page has an example of each command and of each kind of response."""
    shown = {"→": set[str](), "←": set[str]()}
    for conversation in conversations(PAGE):
        for line in conversation.lines:
            mark, _, text = line.partition(" ")
            if mark in shown and (kind := KIND.search(text)) is not None:
                shown[mark].add(kind[1])
    api = read_asyncapi()
    assert shown["→"] == api.messages("receive").keys()
    assert shown["←"] == api.messages("send").keys()
