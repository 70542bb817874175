"""Threads that work on instances, the least effort first, and hand back what is decided."""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeAlias

from harness.verifier.decision import Decision
from harness.verifier.instance_state import Effort, InstanceState

Advance: TypeAlias = Callable[[Effort, InstanceState], Decision | tuple[Effort, float]]
"""Works on an instance; returns its answer, or the effort to go on with and how hard it seems."""


SWITCH_S = 2e-4
"""Seconds after which a thread that runs Python lets another one have a turn. With Python's own 5 ms, each of the many
short steps of one thread waits that long while another one reads properties."""


@contextmanager
def quick_turns() -> Iterator[None]:
    """Lets threads take turns quickly in this process while the block lasts."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Workers:
    """Some threads with one queue: what takes little effort comes before what takes more, the easy before the hard.

    Leaving the `with` block waits for the threads, each of which ends after what it is doing.

    Args:
        advance: the work; must not raise.
        threads: how many.
        prepare: called once and at once, by one of the threads; no work begins before it is over.
        prepare_more: called after that by the same thread, while the others begin.
    """

    def __init__(
        self, advance: Advance, threads: int, prepare: Callable[[], None], prepare_more: Callable[[], None]
    ) -> None:
        self._advance, self._prepare, self._prepare_more = advance, prepare, prepare_more
        self._ready, self._lock = False, threading.Lock()
        self._waiting: queue.PriorityQueue[tuple[int, float, int, InstanceState | None]] = queue.PriorityQueue()
        self._decided: queue.SimpleQueue[tuple[InstanceState, Decision] | Exception] = queue.SimpleQueue()
        self._order, self._open = itertools.count(), 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._waiting.put((-1, 0.0, -1, None))
        for thread in self._threads:
            thread.join()

    def put(self, effort: Effort, hardness: float, instance: InstanceState) -> None:
        """Queues an instance."""
        self._open += 1
        self._queue(effort, hardness, instance)

    def done(self) -> Iterator[tuple[InstanceState, Decision]]:
        """Yields what is decided by now."""
        while self._open and not self._decided.empty():
            yield self._next()

    def rest(self) -> Iterator[tuple[InstanceState, Decision]]:
        """Yields the answers of all queued instances, as they come."""
        while self._open:
            yield self._next()

    def _next(self) -> tuple[InstanceState, Decision]:
        decided = self._decided.get()
        if isinstance(decided, Exception):
            raise decided
        self._open -= 1
        return decided

    def _queue(self, effort: Effort, hardness: float, instance: InstanceState) -> None:
        self._waiting.put((effort.value, hardness, next(self._order), instance))

    def _work(self) -> None:
        try:
            with self._lock:
                is_first, self._ready = not self._ready, True
                if is_first:
                    self._prepare()
            if is_first:
                self._prepare_more()
            while (item := self._waiting.get())[3] is not None:
                effort, instance = Effort(item[0]), item[3]
                outcome = self._advance(effort, instance)
                if isinstance(outcome, Decision):
                    self._decided.put((instance, outcome))
                else:
                    self._queue(*outcome, instance)
        except Exception as error:  # noqa: BLE001  (whoever waits for answers has to hear of it)
            self._decided.put(error)
