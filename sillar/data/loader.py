"""DataLoader: a dataset, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sillar.core.rng import Rng
from sillar.data.dataset import Dataset
from sillar.data.images import Augment, Augmentation
from sillar.data.reader import Reader
from sillar.data.stored import StoredArray
from sillar.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from sillar.data.workers import Pool

Batch = tuple[np.ndarray, np.ndarray]


class DataLoader:
    """Batches (x, y) of up to `batch_size` rows, each with memory of its own.

    Every iteration is one epoch, from 0 on; its order depends on (seed, epoch) only.
    With `workers`, that many processes read ahead into shared memory; the batches are
    the same to the bit. A worker that dies, or gives no sign of life for `timeout`
    seconds, is a DataError that names its row. `close` ends the processes. `augment`
    changes each image, drawn from (seed, epoch, row). With `share` (i, n) each batch is
    the i-th of n equal parts of what it would be, where several processes train.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 0,
        timeout: float | None = 4.0,
        augment: Augment | Sequence[Augmentation] = (),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise ConfigError(
                f"DataLoader: expected a Dataset, got {type(dataset).__name__};"
                " write DataLoader(Dataset(x, y))"
            )
        self.dataset = dataset
        self.batch_size = _integer(batch_size, "batch_size", least=1)
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.workers = _integer(workers, "workers", least=0)
        self.timeout = _seconds(timeout)
        self._rng = Rng(seed)
        self.share = share
        self.augment = _augment(dataset, augment, seed)
        self._reader = Reader(dataset.x, dataset.y, self.augment)
        self._next_epoch = 0
        self._idle: Pool | None = None  # workers that wait for the next epoch
        if drop_last and 0 < len(dataset) < self.batch_size:
            raise ConfigError(
                "DataLoader: with drop_last=True, batch_size must be at most the"
                f" {len(dataset)} rows of the dataset, got {batch_size}, which leaves"
                " no batch; make it smaller or pass drop_last=False"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of epoch `n` from number `start` on.

        They are the same whatever was iterated before.
        """
        epoch = _integer(n, "epoch", least=0)
        start = _integer(start, "start", least=0)
        order = self._order(epoch)
        if isinstance(self.dataset.x, StoredArray):
            mine = [self._rows(order, b) for b in self._from(start)]
            self.dataset.x.expect(np.concatenate(mine) if mine else order[:0])
        return self._batches(epoch, [self._rows(order, b) for b in self._from(start)])

    def batch(self, n: int, number: int) -> Batch:
        """Make one batch of epoch `n` again, as a run's log numbers it, from 0 on."""
        number = _integer(number, "batch", least=0)
        if number >= len(self):
            raise ConfigError(
                f"DataLoader: batch must be below {len(self)}, the batches of an epoch,"
                f" got {number}; count them from 0"
            )
        epoch = _integer(n, "epoch", least=0)
        return self._reader.new(epoch, self._rows(self._order(epoch), number))

    def close(self) -> None:
        """End the worker processes and free their memory; another epoch starts new."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _order(self, epoch: int) -> np.ndarray:
        rows: np.ndarray = np.arange(len(self.dataset))
        if not self.shuffle:
            return rows
        rng, x = self._rng.split("shuffle", epoch), self.dataset.x
        stored = isinstance(x, StoredArray)
        return x.order(rng, rows) if stored else rng.permutation(len(rows))

    def _from(self, start: int) -> range:
        return range(start, len(self))

    def _rows(self, order: np.ndarray, batch: int) -> np.ndarray:
        rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return rows[part(len(rows), *self.share)]

    def _batches(self, epoch: int, batches: list[np.ndarray]) -> Iterator[Batch]:
        if not self.workers or not batches:
            for rows in batches:
                yield self._reader.new(epoch, rows)
            return
        pool, self._idle = self._idle or self._new_pool(), None
        try:
            yield from pool.read(epoch, batches)
        finally:
            if self._idle is None and pool.alive():
                self._idle = pool
            else:
                pool.close()

    def _new_pool(self) -> Pool:
        from sillar.data.workers import Pool

        return Pool(self._reader, self.batch_size, self.workers, self.timeout)


def part(n: int, i: int, count: int) -> slice:
    """Return the i-th of `count` parts of n things, equal but for one."""
    return slice(n * i // count, n * (i + 1) // count)


def _integer(value: int, role: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(
            f"DataLoader: {role} must be an integer of at least {least}, got {value!r};"
            " give a larger whole number"
        )
    return int(value)


def _augment(
    dataset: Dataset, augment: Augment | Sequence[Augmentation], seed: int
) -> Augment | None:
    if not isinstance(augment, Augment):
        if not augment:
            return None
        augment = Augment(augment, seed=seed)
    if dataset.x.ndim != 4 or dataset.x.dtype.kind not in "iuf":
        raise ShapeError(
            "DataLoader: augment takes images, x (n, height, width, channels) of real"
            f" numbers, got {dataset.x.dtype} {dataset.x.shape}; reshape x"
        )
    return augment


def _seconds(value: float | None) -> float | None:
    usual = isinstance(value, Real) and not isinstance(value, bool)
    if value is not None and not (usual and value > 0):
        raise ConfigError(
            f"DataLoader: timeout must be seconds above 0, or None to wait for ever,"
            f" got {value!r}; write for example timeout=30"
        )
    return value
