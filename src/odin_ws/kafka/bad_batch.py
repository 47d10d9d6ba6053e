"""The error that is raised inside the decoding of batches, and never leaves it."""

from __future__ import annotations

import attrs

from odin_ws.records import Undecodable

__all__ = ["BadBatch"]


@attrs.define
class BadBatch(Exception):
    """A whole batch makes no records.

    `cost`: the work of finding out, in bytes that were expanded; see batch_records.ENOUGH.
    """

    reason: Undecodable
    cost: int = 0
