"""One pool of threads, and how many of them there are.

NumPy lets other threads run while it computes, so one thread for each part of a batch
keeps every core busy. BLAS has threads of its own; while ours run, it gets one each.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

from sillar.errors import ConfigError

WIDER = 4  # times as many elements at a time, beside other threads
_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class _Pool:
    """Threads that wait for work; they start when there is some."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue[Any] = SimpleQueue()
        self.size = 0
        self.lock = threading.Lock()

    def run(self, tasks: Sequence[Callable[[], Any]]) -> None:
        """Do all tasks at once, the first in this thread; raise what one raised."""
        self._grow(len(tasks) - 1)
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for task in tasks[1:]:
            self.tasks.put((copy_context(), task, done))
        failures = [_outcome(tasks[0])]
        waiting = len(tasks) - 1
        while waiting:  # even when interrupted: they work on the same memory
            try:
                failures.append(done.get())
                waiting -= 1
            except BaseException as interruption:
                failures.append(interruption)
        for failure in failures:
            if failure is not None:
                raise failure

    def _grow(self, size: int) -> None:
        with self.lock:
            while self.size < size:
                threading.Thread(target=self._work, daemon=True).start()
                self.size += 1

    def _work(self) -> None:
        while True:
            context, task, done = self.tasks.get()
            done.put(context.run(_outcome, task))
            del context, task, done


class _Place(threading.local):
    """Whether this thread is at work on one of several tasks, others beside it."""

    beside = False


_place = _Place()


def _outcome(task: Callable[[], Any]) -> BaseException | None:
    before, _place.beside = _place.beside, True
    try:
        task()
    except BaseException as failure:
        return failure
    finally:
        _place.beside = before
    return None


class _Settings:
    """The pool, BLAS's own switch, and the number of threads once somebody asked."""

    def __init__(self) -> None:
        self.pool = _Pool()
        self.count: int | None = None
        self.processes = True
        self.blas: list[Any] | None = None


_settings = _Settings()


def threads() -> int:
    """Return how many threads a compiled step may use.

    As many as there are cores for this process, or as OPENBLAS_NUM_THREADS or
    OMP_NUM_THREADS allow, or as `set_threads` said.
    """
    if _settings.count is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        given = (os.environ.get(name, "") for name in _LIMITS)
        _settings.count = min(
            [cores, *(int(n) for n in given if n.isdigit() and n != "0")]
        )
    return _settings.count


def set_threads(count: int, *, processes: bool = True) -> None:
    """Let steps that are compiled from now on use `count` threads.

    With `processes`, on Linux, parts of a batch are done by processes, which are forked
    for it: they do not wait for the interpreter's lock.
    """
    if type(count) is not int or count < 1:
        raise ConfigError(f"set_threads: expected an integer >= 1, got {count!r:.40}")
    _settings.count, _settings.processes = count, processes


def processes() -> bool:
    """Say whether processes do the parts of a compiled step."""
    return _settings.processes and sys.platform == "linux"


def block(size: int) -> int:
    """Return how many elements to work on at a time; `size` is best for one thread.

    After each call NumPy takes the interpreter's lock again. A thread that finds it
    taken sleeps, and wakes 40 microseconds late: beside others calls must be longer.
    """
    return WIDER * size if _place.beside else size


def run(tasks: Sequence[Callable[[], Any]]) -> None:
    """Do all tasks at once, on as many threads; raise what one of them raised."""
    _settings.pool.run(tasks)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Context in which a product of matrices stays in the thread that asks for it."""
    libraries = _blas()
    before = [library.get_num_threads() for library in libraries]
    for library in libraries:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, number in zip(libraries, before, strict=True):
            library.set_num_threads(number)


def _blas() -> list[Any]:
    if _settings.blas is None:
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="blas").lib_controllers
        _settings.blas = list(found)
    return _settings.blas


def _after_fork() -> None:
    _settings.pool = _Pool()  # a child has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
