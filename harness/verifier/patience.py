"""Ends long computations in time: they call `tick` between their parts, and whoever started them said how long to go.

A scope rather than an argument, since it has nothing to do with what the functions in between compute: none of them has
a different result because of it, only none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from harness.domain import LgBenchError


class OutOfTimeError(LgBenchError):
    """The time for a computation is over; nothing that it was to return exists."""


_is_over: ContextVar[Callable[[], bool] | None] = ContextVar("is_over", default=None)


@contextmanager
def until(is_over: Callable[[], bool]) -> Iterator[None]:
    """Lets every `tick` of this thread inside the block raise once `is_over()` returns True."""
    token = _is_over.set(is_over)
    try:
        yield
    finally:
        _is_over.reset(token)


def tick() -> None:
    """Does nothing, or ends the computation.

    Raises:
        OutOfTimeError: the innermost `until` around the call says that time is over.
    """
    is_over = _is_over.get()
    if is_over is not None and is_over():
        raise OutOfTimeError("the time is over")
