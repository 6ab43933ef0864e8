"""Worker processes that read batches into shared memory.

    parent  (epoch, slot, row numbers)  -->  worker, which writes into the slot
    parent  <--  "done", or what went wrong  worker

Batch b is read by worker b % workers, which has two slots of its own: while the parent
takes a batch from one, the worker fills the other. So no order depends on who is fast.
The arrays of the data set lie in shared memory once; a `StoredArray` is opened anew.
Before it reads a row, a worker writes down its number, for the case that it dies there.
"""

from __future__ import annotations

import signal
import time
import traceback
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np

from sillar.data.images import Augment
from sillar.data.reader import Reader
from sillar.data.shared import Shared, Specs, specs_of
from sillar.data.stored import Chosen, StoredArray
from sillar.errors import DataError

SLOTS = 2  # of each worker
START = 60.0  # seconds that Python may take to start
_LOOK = 0.2  # seconds between two looks at a worker that is silent
_NONE = -1  # the row of a worker that reads none


class Task(NamedTuple):
    """What a worker is told about the data once; no large array is in it."""

    block: str  # name of the memory with the data set's arrays
    arrays: Specs
    stored: StoredArray | None  # x, if it does not lie in shared memory
    augment: Augment | None
    ring: str  # name of the memory with slots and marks
    slots: Specs


class Pool:
    """Workers for one data set, which serve one epoch at a time."""

    def __init__(
        self, reader: Reader, batch_size: int, workers: int, timeout: float | None
    ) -> None:
        arrays, stored = _parted(reader)
        self._blocks: list[Shared] = []
        self.workers: list[_Worker] = []
        self._end = weakref.finalize(self, _end, self.workers, self._blocks)
        try:
            self._start(reader, arrays, stored, (batch_size, workers, timeout))
        except BaseException:
            self.close()
            raise

    def _start(
        self,
        reader: Reader,
        arrays: dict[str, np.ndarray],
        stored: StoredArray | None,
        sizes: tuple[int, int, float | None],
    ) -> None:
        batch_size, workers, timeout = sizes
        batch_size = min(batch_size, len(reader.y))  # a slot holds no more
        data = Shared(specs_of(**arrays))
        self._blocks.append(data)
        for name, array in arrays.items():
            data.arrays[name][...] = array
        ring = Shared(_slots(reader, batch_size, workers))
        self._blocks.append(ring)
        task = Task(
            *(data.block.name, data.specs, stored, reader.augment),
            *(ring.block.name, ring.specs),
        )
        ring.arrays["marks"][...] = _NONE
        for number in range(workers):
            self.workers.append(_Worker(number, task, ring, timeout))

    def read(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches of these rows, in order."""
        for worker in self.workers:
            worker.forget()
        ahead = SLOTS * len(self.workers)
        for number, rows in enumerate(batches[:ahead]):
            self._of(number).send(epoch, rows)
        for number in range(len(batches)):
            batch = self._of(number).receive()
            if number + ahead < len(batches):
                self._of(number).send(epoch, batches[number + ahead])
            yield batch

    def _of(self, batch: int) -> _Worker:
        return self.workers[batch % len(self.workers)]

    def alive(self) -> bool:
        """Say whether all workers can go on."""
        return all(w.process.is_alive() and not w.failed for w in self.workers)

    def close(self) -> None:
        """End the processes, then remove the shared memory."""
        self._end()


class _Worker:
    """One worker process, as the parent sees it."""

    def __init__(
        self, number: int, task: Task, ring: Shared, timeout: float | None
    ) -> None:
        self.number, self.ring, self.timeout = number, ring, timeout
        self.sent: deque[tuple[int, int, np.ndarray]] = deque()  # epoch, slot, rows
        self.turn, self.ready, self.failed = 0, False, False
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=work,
            args=(theirs, number, task),
            name=f"sillar-loader-{number}",
            daemon=True,
        )
        self.process.start()
        theirs.close()

    def send(self, epoch: int, rows: np.ndarray) -> None:
        """Ask for a batch; at most `SLOTS` may be under way."""
        slot = self.number * SLOTS + self.turn
        self.turn = (self.turn + 1) % SLOTS
        self.sent.append((epoch, slot, rows))
        with suppress(OSError):  # it is dead; `receive` says so
            self.connection.send((epoch, slot, rows))

    def receive(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the oldest batch that was asked for, in memory of its own."""
        message = self._message()
        _, slot, rows = self.sent.popleft()
        if message is not None:
            self.failed = True
            text, trail = message
            error = DataError(text)
            error.add_note(f"In worker {self.number}:\n{trail}")
            raise error
        n, arrays = len(rows), self.ring.arrays
        return arrays["x"][slot, :n].copy(), arrays["y"][slot, :n].copy()

    def forget(self) -> None:
        """Let what an epoch that was left early asked for come, and drop it."""
        while self.sent:
            self._message()
            self.sent.popleft()

    def _message(self) -> tuple[str, str] | None:
        """Return the next answer: None, or text and traceback of an error."""
        answer = self._wait()
        while answer == "ready":
            self.ready = True
            answer = self._wait()
        return None if answer == "done" else answer

    def _wait(self) -> Any:
        since, signs = time.monotonic(), -1
        while True:
            wait([self.connection, self.process.sentinel], _LOOK)
            try:
                if self.connection.poll():
                    return self.connection.recv()
            except (EOFError, OSError):
                raise self._dead() from None
            if not self.process.is_alive() and not self.connection.poll():
                raise self._dead()
            now, seen = time.monotonic(), int(self.ring.arrays["signs"][self.number])
            if seen != signs:
                since, signs = now, seen
            limit = self.timeout if self.ready else START
            if limit is not None and now - since > limit:
                raise self._stuck(now - since)

    def _dead(self) -> DataError:
        self.process.join(1)
        code = self.process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        advice = "look at that row, and at the memory the machine has left"
        if not self.ready:
            advice = (
                "a script that uses workers needs the line if __name__ == '__main__':"
                " above what it does, and classes that can be imported"
            )
        return self._error(f"{how} {self._place()}; {advice}")

    def _stuck(self, seconds: float) -> DataError:
        return self._error(
            f"gave no sign of life for {seconds:.1f} s {self._place()}; look at that"
            " row, or give DataLoader a longer timeout"
        )

    def _error(self, text: str) -> DataError:
        self.failed = True
        who = f"worker {self.number} (process {self.process.pid})"
        return DataError(f"DataLoader: {who} {text}")

    def _place(self) -> str:
        """Say which row the worker was at, and which rows were asked of it."""
        row = int(self.ring.arrays["marks"][self.number])
        where = "between two batches" if row == _NONE else f"at row {row}"
        if not self.sent:
            return where
        epoch, _, rows = self.sent[0]
        shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        return f"{where}, where rows {shown} of epoch {epoch} were to be read"


def _parted(reader: Reader) -> tuple[dict[str, np.ndarray], StoredArray | None]:
    """Return the arrays to share, and what every worker opens by itself."""
    x = reader.x
    if isinstance(x, np.ndarray):
        return {"x": x, "y": reader.y}, None
    if isinstance(x, Chosen):
        return {"rows": x.rows, "y": reader.y}, x.array
    return {"y": reader.y}, x


def _slots(reader: Reader, batch_size: int, workers: int) -> Specs:
    """Return what is in the ring: marks and signs of life, then the slots."""
    n, x, y = workers * SLOTS, reader.x, reader.y
    return {
        "marks": ((workers,), "<i8"),
        "signs": ((workers,), "<i8"),
        "x": ((n, batch_size, *x.shape[1:]), x.dtype.str),
        "y": ((n, batch_size, *y.shape[1:]), y.dtype.str),
    }


def _end(workers: list[_Worker], blocks: list[Shared]) -> None:
    """End the processes first: none of them may look for memory that is gone."""
    for worker in workers:
        worker.connection.close()
        worker.process.kill()  # it has nothing to lose
    for worker in workers:
        worker.process.join()
        worker.process.close()
    workers.clear()
    for block in blocks:
        block.close()
    blocks.clear()


def work(connection: Connection, number: int, task: Task) -> None:
    """Read batches until the parent closes the connection: the worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when it is over
    data, ring = Shared(task.arrays, task.block), Shared(task.slots, task.ring)
    marks, signs = ring.arrays["marks"], ring.arrays["signs"]

    def mark(row: int) -> None:
        marks[number] = row
        signs[number] += 1

    if task.augment is not None:
        task.augment.alone()
    x = data.arrays.get("x", task.stored)
    if "rows" in data.arrays:
        x = Chosen(task.stored, data.arrays["rows"])
    reader = Reader(x, data.arrays["y"], task.augment, mark)
    with suppress(EOFError, OSError):  # the parent has left
        connection.send("ready")
        while True:
            epoch, slot, rows = connection.recv()
            answer: Any = "done"
            places = (ring.arrays[name][slot, : len(rows)] for name in ("x", "y"))
            try:
                reader.fill(epoch, rows, *places)
            except Exception as fault:
                answer = (str(fault), traceback.format_exc())
            mark(_NONE)
            connection.send(answer)
