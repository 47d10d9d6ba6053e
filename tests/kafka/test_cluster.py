"""Questions survive a connection that the broker closes, and nothing more than that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from odin_ws.kafka.cluster import Questions
from odin_ws.kafka.trio_asyncio_compat import open_loop

CLOSED = KafkaConnectionError("closed")


class Admin:
    """Answers one after the other with what it is made of."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = list(answers)

    async def describe_topics(self) -> Any:
        """The next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def ask(*answers: Any) -> tuple[set[Any], Admin]:
    """Ask for a layout; returns it, and the client that was asked."""
    admin = Admin(answers)
    async with open_loop():
        return await Questions(None, admin, 1.0).layout(["odin.trades"]), admin


async def test_a_closed_connection_is_no_answer_yet() -> None:
    """A broker closes connections that it let in long ago: that is no reason to tell of a stall."""
    assert (await ask(CLOSED, []))[0] == set()


@pytest.mark.parametrize("answers", [[CLOSED, CLOSED, []], [NodeNotReadyError("away"), []]])
async def test_a_broker_that_does_not_answer_is_asked_no_third_time(answers: list[Any]) -> None:
    """One that is gone is told of at once."""
    with pytest.RaisesGroup(type(answers[0]), flatten_subgroups=True, allow_unwrapped=True):
        await ask(*answers)
