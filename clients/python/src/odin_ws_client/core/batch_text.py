"""Splits the JSON text of a batch into the texts of its messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["BatchText"]

# Brackets mark where a value ends; strings are matched too, because they can contain brackets.
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)

# The depth of the batch itself and of its list of messages.
_OUTER: Final = 2


class BatchText:
    """The JSON text of a batch, split at the first call of `message`.

    Args:
        text: the batch, in UTF-8.
        seq: the sequence number of the first message.
        replay: whether the messages are replayed.
        ahead: whether the server holds back an older record of the partition.
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
        """Return the message `seq` as JSON text, with its value as written in the batch."""
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
    """Yield the text of each object in the lists of the object `batch`."""
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
