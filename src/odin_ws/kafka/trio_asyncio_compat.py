"""Imports trio-asyncio without warnings, and makes it run on Python 3.14.

trio-asyncio 0.16.0 supports Python 3.8 to 3.13. Three changes break it on 3.14:

1. `asyncio.events.BaseDefaultEventLoopPolicy` and `asyncio.AbstractChildWatcher`, from which it
   derives classes, are gone (python-trio/trio-asyncio#160, #152). The first was renamed with an
   underscore. The second was an interface without behaviour, which asyncio no longer calls.
2. The C code of `asyncio.Task` now compares the thread's running loop with a task's own loop before
   each step. trio-asyncio replaces the *functions* that return the running loop and never sets it.
   On 3.14 each step therefore fails with "loop … is not the running loop", the task never ends, and
   `open_loop` waits for the task forever.
3. Reading or setting the event loop policy is deprecated until its removal in 3.16.

This module provides the two names while trio-asyncio is imported, and makes a loop of trio-asyncio
the thread's running loop whenever one of the loop's own Trio tasks executes. A release of
trio-asyncio would need the second part in `BaseTrioEventLoop`, too.

Remove this module once a release of trio-asyncio supports the newest Python of `pyproject.toml`;
`test_trio_asyncio_has_no_newer_release_pinned` fails when there is one to try.
"""

from __future__ import annotations

import asyncio
import sys
import types
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

__all__ = ["PATCHED_RELEASE", "aio_as_trio", "open_loop", "trio_as_aio"]

PATCHED_RELEASE: Final = "0.16.0"
"""The release of trio-asyncio that this module was written for."""


@contextmanager
def _removed_names() -> Iterator[None]:
    """Restore the two names that trio-asyncio derives classes from, during one import."""
    lent: list[tuple[types.ModuleType, str, type]] = [
        (asyncio.events, "BaseDefaultEventLoopPolicy", _policy_class()),
        (asyncio, "AbstractChildWatcher", object),
    ]
    for module, name, value in lent:
        setattr(module, name, value)
    try:
        yield
    finally:
        # Other libraries check these names to detect the Python version.
        for module, name, _value in lent:
            delattr(module, name)


def _policy_class() -> type:
    policy: type = vars(asyncio.events)["_BaseDefaultEventLoopPolicy"]
    return policy


@types.coroutine
def _with_running_loop(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Await a coroutine; `loop` is the thread's running loop while it executes, not while it waits.

    Other Trio tasks execute meanwhile, with other loops or none.
    """
    resume: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        previous = _get_thread_loop()
        _set_thread_loop(loop)
        try:
            yielded = resume(argument)
        except StopIteration as returned:
            return returned.value
        finally:
            _set_thread_loop(previous)
        try:
            argument = yield yielded
        except BaseException as error:  # noqa: BLE001 -- the coroutine gets every exception
            resume, argument = coroutine.throw, error
        else:
            resume = coroutine.send


# Saved before trio-asyncio replaces them in the asyncio module.
_get_thread_loop: Final = asyncio._get_running_loop  # noqa: SLF001 -- documented for event loops
_set_thread_loop: Final = asyncio._set_running_loop  # noqa: SLF001 -- documented for event loops


def _set_running_loop_in(loop_class: Any, method: str) -> None:
    """Make a loop the thread's running loop whenever its coroutine method `method` executes."""
    original = getattr(loop_class, method)

    @wraps(original)
    async def wrapper(self: asyncio.AbstractEventLoop, *args: Any, **options: Any) -> Any:
        return await _with_running_loop(self, original(self, *args, **options))

    setattr(loop_class, method, wrapper)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    if sys.version_info >= (3, 14):
        with _removed_names():
            import trio_asyncio
        # Everything that calls asyncio callbacks: the queue of the loop and its file descriptors.
        for _method in ("_main_loop_one", "_io_task"):
            _set_running_loop_in(trio_asyncio.BaseTrioEventLoop, _method)
    else:
        import trio_asyncio

aio_as_trio = trio_asyncio.aio_as_trio
open_loop = trio_asyncio.open_loop
trio_as_aio = trio_asyncio.trio_as_aio
