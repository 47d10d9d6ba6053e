"""A context manager that releases something on exit, faster than a generator."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Lease"]

T = TypeVar("T")


class Lease(Generic[T]):
    """Calls a function at the end of a block; the block gets `value`.

    Not a generator with `contextlib.contextmanager`: that takes ten times as long, and every
    connection holds several of these.
    """

    __slots__ = ("_release", "_value")

    def __init__(self, value: T, release: Callable[[], None]) -> None:
        self._value = value
        self._release = release

    def __enter__(self) -> T:
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()
