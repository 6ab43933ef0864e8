"""A Dask collection as a data set: partitions stream to the trainer."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any, NoReturn

import numpy as np

from sillar.core.rng import Rng
from sillar.data import Dataset, Encoder, StoredArray
from sillar.data.answers import Answers
from sillar.distributed.dask.cluster import (
    Delayed,
    Scheduler,
    connect,
    delayed,
    outcomes,
    partitions,
    value_of,
)
from sillar.distributed.dask.rows import (
    Form,
    answers_of,
    encoder_of,
    in_partition,
    numbers_of,
)
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.optim.checks import integer


class Partitions(StoredArray):
    """The rows of a Dask collection; `window` partitions are in memory here.

    As many more are computed ahead and wait on the workers. Rows are shuffled by
    partition: these are put in random order, and the rows of each `window` of them are
    mixed. `close` ends the connection, if it was made for this array.
    """

    def __init__(
        self,
        cluster: tuple[Any, bool],
        parts: list[Delayed],
        heads: list[tuple[int, tuple[int, ...], str]],
        window: int,
    ) -> None:
        self.client, own = cluster
        self.parts, self.window = parts, window
        self.ends = np.cumsum([count for count, *_ in heads], dtype=np.int64)
        full = [head for head in heads if head[0]]
        self.shape = (int(self.ends[-1]), *full[0][1])
        self.dtype = np.dtype(full[0][2])
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._futures: dict[int, Any] = {}
        self._plan: dict[int, int] = {}  # partition -> when it comes
        self._at = 0
        self._end = weakref.finalize(self, _end, self.client, own, self._futures)

    def close(self) -> None:
        """Forget what is under way; end the connection if it was made here."""
        self._end()

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "open_dask: partitions are computed by the cluster's workers and read by"
            " this process alone: leave workers=0"
        )

    def order(self, rng: Rng, rows: np.ndarray) -> np.ndarray:
        turn = rng.split("partitions").permutation(len(self.parts))
        block = turn[np.searchsorted(self.ends, rows, side="right")] // self.window
        mixed = rng.split("rows").permutation(len(rows))
        return mixed[np.argsort(block[mixed], kind="stable")]

    def expect(self, rows: np.ndarray) -> None:
        found = np.searchsorted(self.ends, rows, side="right")
        parts, first = np.unique(found, return_index=True)
        self._plan = {int(p): i for i, p in enumerate(parts[np.argsort(first)])}
        self._at = 0

    def row(self, number: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, number, side="right"))
        return self._part(part)[number - int(self.ends[part])]  # from the end

    def take(self, rows: np.ndarray, axis: int = 0) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        parts = np.searchsorted(self.ends, rows, side="right")
        for part in dict.fromkeys(parts.tolist()):
            here = parts == part
            found[here] = self._part(part)[rows[here] - int(self.ends[part])]
        return found

    def _part(self, number: int) -> np.ndarray:
        """Return the rows of a partition; forget those unused for longest."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        while len(self._kept) >= self.window:
            self._kept.popitem(last=False)
        coming = [number, *self._next(number)]
        for old in self._futures.keys() - set(coming):
            self._futures.pop(old).release()
        for part in coming:
            if part not in self._futures and part not in self._kept:
                self._futures[part] = self.client.compute(self.parts[part])
        future = self._futures.pop(number)
        rows = value_of(future)
        future.release()
        self._kept[number] = self._checked(number, rows)
        return self._kept[number]

    def _next(self, number: int) -> list[int]:
        """Return the partitions to compute ahead: by the plan, or the next by number.

        Whoever reads off the plan, as the rows held back, goes by number.
        """
        at = self._plan.get(number, -1)
        if at < self._at:
            last = min(number + 1 + self.window, len(self.parts))
            return list(range(number + 1, last))
        self._at = at
        return [p for p, i in self._plan.items() if at < i <= at + self.window]

    def _checked(self, number: int, rows: Any) -> np.ndarray:
        if isinstance(rows, BaseException):
            raise in_partition(number, "open_dask", rows) from rows
        start = int(self.ends[number - 1]) if number else 0
        expected = (int(self.ends[number]) - start, *self.shape[1:])
        if rows.shape != expected or rows.dtype != self.dtype:
            raise DataError(
                f"open_dask: partition {number}: expected {self.dtype} {expected} as"
                f" when it was opened, got {rows.dtype} {rows.shape}: what computes a"
                " partition must give the same rows each time"
            )
        return rows


def open_dask(
    collection: Any,
    *,
    target: Any = None,
    encoder: Encoder | None = None,
    scheduler: Scheduler = None,
    window: int = 4,
    dtype: str | None = None,
    name: str = "dask",
) -> Partitions | Dataset:
    """Return the rows of a Dask array, bag or dataframe, or with `target` a Dataset.

    x stays with Dask: `fit` gets it partition by partition, `window` of them in memory
    at a time, and answers take 8 bytes each. `target` is the name of a column; the
    place of one, for records that are lists; or, for an array, its answers as another
    one. Columns are numbers, or go through `encoder`, which was fitted before.
    Opening computes every partition once, to count rows and to gather answers.
    """
    window = integer("open_dask: window", window)
    if encoder is not None and not isinstance(encoder, Encoder):
        raise ConfigError(f"open_dask: expected an encoder, got {encoder!r:.60}")
    parts = partitions(collection, "open_dask")
    column = target if isinstance(target, str | int) else None
    described = None if encoder is None else encoder.describe()
    form = Form(column, encoder=described, dtype=dtype)
    cluster = connect(scheduler, "open_dask")
    try:
        found = _gather(cluster[0], [delayed(_measure)(p, form) for p in parts])
        x = _array(cluster, parts, form, [head for head, _ in found], window)
        if target is None:
            return x
        if column is None:
            return Dataset(x, _other(cluster[0], target), None, name)
        return Dataset(x, *_answers([a for _, a in found], x), name)
    except BaseException:
        if cluster[1]:
            cluster[0].close()
        raise


def _gather(client: Any, tasks: list[Delayed]) -> list[Any]:
    """Return the values of the tasks, in order; raise the first error."""
    found: list[Any] = [None] * len(tasks)
    for number, value in outcomes(client, enumerate(tasks)):
        if isinstance(value, BaseException):
            raise in_partition(number, "open_dask", value) from value
        found[number] = value
    return found


def _array(
    cluster: tuple[Any, bool],
    parts: list[Delayed],
    form: Form,
    heads: list[Any],
    window: int,
) -> Partitions:
    full = [head for head in heads if head[0]]
    if not full:
        raise DataError("open_dask: expected rows, got none in any partition")
    for number, head in enumerate(heads):
        if head[0] and head[1:] != full[0][1:]:
            raise ShapeError(
                f"open_dask: partition {number}: expected rows {full[0][1:]} as before,"
                f" got {head[1:]}; bring all partitions to one shape and type"
            )
    shape, dtype = full[0][1:]
    lazy = [delayed(_rows)(part, form, shape, dtype) for part in parts]
    return Partitions(cluster, lazy, heads, window)


def _other(client: Any, target: Any) -> np.ndarray:
    """Return the answers that are an array of their own."""
    if isinstance(target, np.ndarray):
        return target
    parts = partitions(target, "open_dask: target")
    return np.concatenate(_gather(client, [delayed(np.asarray)(p) for p in parts]))


def _answers(texts: list[list[str]], x: Partitions) -> tuple[Any, Any]:
    answers = Answers()
    for number, part in enumerate(texts):
        try:
            answers.extend(part)
        except DataError as fault:
            raise in_partition(number, "open_dask", fault) from None
    return answers.finish(x.dtype if x.dtype.kind == "f" else np.dtype("float32"))


def _measure(part: Any, form: Form) -> tuple[Any, list[str]]:
    """Return (rows, shape of a row, type) and the answers of a partition."""
    part = part if hasattr(part, "shape") else list(part)
    if not len(part):
        return (0, (), ""), []
    x = numbers_of(part, form, encoder_of(form))
    return (len(x), x.shape[1:], x.dtype.str), answers_of(part, form)


def _rows(part: Any, form: Form, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return the inputs in a partition, of this shape of a row if it is empty."""
    part = part if hasattr(part, "shape") else list(part)
    if not len(part):
        return np.empty((0, *shape), dtype)
    return numbers_of(part, form, encoder_of(form))


def _end(client: Any, own: bool, futures: dict[int, Any]) -> None:
    for future in futures.values():
        future.release()
    futures.clear()
    if own:
        client.close()
