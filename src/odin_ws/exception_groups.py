"""Exception groups: the exceptions in them, however deep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

__all__ = ["leaves"]

E = TypeVar("E", bound=BaseException)


def leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    """Yield the exceptions of a group and of its nested groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
