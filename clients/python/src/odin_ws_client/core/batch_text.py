"""The text of a batch, and of each message in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["BatchText"]

# What tells where a value ends: strings, which may have brackets in them, and brackets.
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)

# The depth of the batch itself and of its list of messages.
_OUTER: Final = 2


class BatchText:
    """The text of a batch. It is split at the first request for the text of a message.

    Args:
        text: the batch, in UTF-8.
        seq: the number of its first message.
        replay: whether its messages are replayed.
        ahead: whether the server holds back an earlier message.
    """

    __slots__ = ("_ahead", "_bodies", "_replay", "_seq", "_text")

    def __init__(
        self, text: bytes | bytearray, seq: int, *, replay: bool, ahead: bool = False
    ) -> None:
        self._text = text
        self._seq = seq
        self._replay = replay
        self._ahead = ahead
        self._bodies: list[str] | None = None

    def message(self, seq: int, skipped: int) -> str:
        """The message with a number, as JSON text; its value is as it was in the batch."""
        if self._bodies is None:
            self._bodies = list(_objects(self._text.decode()))
        marks = f',"skipped":{skipped}' if skipped else ""
        if self._replay:
            marks += ',"replay":true'
        if self._ahead:
            marks += ',"ahead":true'
        body = self._bodies[seq - self._seq][1:]
        return f'{{"seq":{seq}{marks},"type":"message",{body}'


def _objects(batch: str) -> Iterator[str]:
    """The objects in the lists of an object."""
    depth = begin = 0
    for token in _TOKENS.finditer(batch):
        match token[0]:
            case "{" | "[":
                if depth == _OUTER:
                    begin = token.start()
                depth += 1
            case "}" | "]":
                depth -= 1
                if depth == _OUTER:
                    yield batch[begin : token.end()]
            case _:
                pass
