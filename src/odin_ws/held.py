"""A context manager that releases something on exit, faster than a generator."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Held"]

T = TypeVar("T")


class Held(Generic[T]):
    """Calls a function at the end of a block; the block gets `value`.

    Not a generator with `contextlib.contextmanager`: that takes ten times as long, and every
    connection holds several of these.
    """

    __slots__ = ("_give_back", "_value")

    def __init__(self, value: T, give_back: Callable[[], None]) -> None:
        self._value = value
        self._give_back = give_back

    def __enter__(self) -> T:
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
