"""The log mark: which log a committed offset belongs to, by leader epoch and topic id."""

from __future__ import annotations

import re
from typing import Final

import attrs

from odin_ws.kafka.protocol import NO_EPOCH

__all__ = ["LogMark"]

_LOG_MARK: Final = re.compile(
    r"leader_epoch=(-1|[0-9]{1,9})(?: topic_id=([0-9a-f]{32}))?", re.ASCII
)


@attrs.frozen
class LogMark:
    """The log that a committed position belongs to, as the metadata text of the commit.

    OffsetCommit has a field for the epoch, which aiokafka does not write, and none for the id.
    """

    epoch: int = NO_EPOCH
    topic_id: str | None = None

    def text(self) -> str:
        """Return the text to commit."""
        topic = "" if self.topic_id is None else f" topic_id={self.topic_id}"
        return f"leader_epoch={self.epoch}{topic}"

    @classmethod
    def parse(cls, text: str) -> LogMark:
        """Parse a committed text; one of another program is ignored."""
        found = _LOG_MARK.fullmatch(text)
        return cls() if found is None else cls(int(found[1]), found[2])
