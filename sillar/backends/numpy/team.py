"""Processes that work on parts of a step, over memory that they share.

Threads of one interpreter take turns at its lock, which costs more than their short
calls. A process has an interpreter of its own. It is forked when a step is first
replayed, so it knows the plan, and all memory has the same addresses; what is written
later it sees only in shared memory: in boxes, and in copies of what stays outside.
A child computes and does nothing else. It ends with the plan, or with its parent.
"""

from __future__ import annotations

import builtins
import gc
import os
import signal
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import sharing
from sillar.backends.numpy.sharing import lasts, shared
from sillar.errors import BackendError

SPIN = 2e-4  # seconds to look for the next turn before going to sleep
LOOK = 1.0  # seconds between two looks whether the others are there
TEXT = 1000  # bytes for what went wrong in a child
STOP, START, GO_ON = 0, 1, 2
ERRORS = ("divide", "over", "under", "invalid")  # of numpy.errstate
REACTIONS = ("ignore", "warn", "raise", "print", "call", "log")
IN_CHILDREN: Any = (*REACTIONS[:4], "warn", "warn")  # there is nobody to call


class Mirror:
    """Copies, in shared memory, of arrays that may be written outside of a plan.

    What a parameter vector holds is copied at once, with all its views; what lies in
    memory that lasts is not copied.
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.pairs: dict[int, tuple[Array, Array]] = {}  # by the array that is copied
        self.used: dict[int, int] = {}  # bytes of each owner of memory
        for array in {id(array): array for array in arrays}.values():
            owner = id(_owner(array))
            self.used[owner] = self.used.get(owner, 0) + array.nbytes

    def view(self, array: Array) -> Array:
        """Return the array as it lies in the copy."""
        if lasts(array):
            return array
        owner = _owner(array)
        if owner.nbytes > 2 * self.used[id(owner)] or not owner.flags.forc:
            return self._copy(array)
        copy = self._copy(owner)
        start = _address(array) - _address(owner)
        flat = copy.reshape(-1, order="A").view(np.uint8)
        return np.ndarray(array.shape, array.dtype, flat, start, array.strides)

    def refresh(self) -> None:
        """Copy all anew."""
        for array, copy in self.pairs.values():
            np.copyto(copy, array)

    def _copy(self, array: Array) -> Array:
        if id(array) not in self.pairs:
            turned = array.flags.f_contiguous and not array.flags.c_contiguous
            copy = shared(array.shape[::-1] if turned else array.shape, array.dtype)
            self.pairs[id(array)] = array, copy.T if turned else copy
        return self.pairs[id(array)][1]


class Team:
    """One child for each of `parts`, functions that give generators of stages."""

    def __init__(self, parts: Sequence[Callable[[], Iterator[None]]]) -> None:
        self.process = os.getpid()
        self.orders = shared((1 + len(ERRORS),), np.int64)
        self.members = [_Member(part, self.orders) for part in parts]
        weakref.finalize(self, _end, self.process, self.orders, self.members)

    def start(self) -> None:
        """Let the next stage be the first one, with the caller's `numpy.errstate`."""
        wanted: Any = np.geterr()
        self.orders[:] = START, *(REACTIONS.index(wanted[e]) for e in ERRORS)

    def is_ours(self) -> bool:
        """Say whether the children are of this process, not of one it is a copy of."""
        return self.process == os.getpid()

    def advance(self, own: Callable[[], Any]) -> None:
        """Do one stage in every child, and `own` here; raise what one raised."""
        for member in self.members:
            member.go.release()
        failures = [_outcome(own)]
        for member in self.members:  # even when interrupted: they share memory
            failures += member.wait()
        self.orders[0] = GO_ON
        for failure in failures:
            if failure is not None:
                raise failure


class _Member:
    """A child process, as its parent sees it."""

    def __init__(self, part: Callable[[], Iterator[None]], orders: Array) -> None:
        from multiprocessing import get_context

        fork = get_context("fork")
        self.go, self.done = fork.Semaphore(0), fork.Semaphore(0)
        self.note = shared((TEXT,), np.uint8)
        parent = os.getpid()
        with warnings.catch_warnings():  # that other threads exist: no lock is theirs
            warnings.simplefilter("ignore")
            self.number = sharing.fork()
        if not self.number:
            _work(part, orders, self, parent)

    def wait(self) -> list[BaseException]:
        """Wait for the end of a stage; return what went wrong, and interruptions."""
        failures: list[BaseException] = []
        while True:
            try:
                _take(self.done, self._look)
                break
            except BackendError as failure:
                return [*failures, failure]
            except BaseException as interruption:
                failures.append(interruption)
        text = bytes(self.note).rstrip(b"\0").decode(errors="replace")
        if text:
            self.note[...] = 0
            failures.append(_failure(*text.split(": ", 1)))
        return failures

    def _look(self) -> None:
        if self.number and os.waitpid(self.number, os.WNOHANG)[0]:
            self.number = 0
        if not self.number:
            raise BackendError(
                "a process that worked on a part of a step is gone, as when memory is"
                " short: go on with set_threads(1)"
            )


def _work(
    part: Callable[[], Iterator[None]], orders: Array, me: _Member, parent: int
) -> None:
    """Be a child: do a stage whenever it is asked for, and never return."""

    def look() -> None:
        if os.getppid() != parent:
            os._exit(0)

    try:
        gc.disable()  # what it would find is its parent's to end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)  # whoever reads our parent's output waits for its end
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        stages: Iterator[None] = iter(())
        while True:
            _take(me.go, look)
            if orders[0] == STOP:
                break
            if orders[0] == START:
                stages = part()
                _set_errors(orders[1:])
            failure = _outcome(partial(next, stages, None))
            if failure is not None:
                text = f"{type(failure).__name__}: {failure}".encode()[:TEXT]
                me.note[: len(text)] = np.frombuffer(text, np.uint8)
            me.done.release()
    finally:
        os._exit(0)


def _take(turn: Any, look: Callable[[], None]) -> None:
    """Take a semaphore: a call costs less than sleep, and waking up costs more."""
    end = time.perf_counter() + SPIN
    while not turn.acquire(False):
        if time.perf_counter() > end:
            while not turn.acquire(True, LOOK):
                look()
            return


def _set_errors(reactions: Array) -> None:
    chosen = (IN_CHILDREN[k] for k in reactions)
    np.seterr(**dict(zip(ERRORS, chosen, strict=True)))


def _failure(name: str, text: str) -> BaseException:
    """Return what was raised in a child; of Python's own exceptions, the same one."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(text)
    return BackendError(f"a part of a step failed: {name}: {text}")


def _end(process: int, orders: Array, members: Sequence[_Member]) -> None:
    if os.getpid() != process:  # a copy of the process that the children belong to
        return
    orders[0] = STOP
    for member in members:
        member.go.release()
    for member in members:
        if member.number:
            _bury(member.number)


def _bury(number: int) -> None:
    """Wait for the end of a child, which is near; one that cannot end is killed."""
    end = time.perf_counter() + LOOK
    with suppress(ChildProcessError):
        while not os.waitpid(number, os.WNOHANG)[0]:
            if time.perf_counter() > end:
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)
                return
            time.sleep(SPIN)


def _outcome(task: Callable[[], Any]) -> BaseException | None:
    try:
        task()
    except BaseException as failure:
        return failure
    return None


def _owner(array: Array) -> Array:
    """Return the array that a view looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
