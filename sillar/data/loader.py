"""DataLoader: a dataset, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import numpy as np

from sillar.core.rng import Rng
from sillar.data.dataset import Dataset
from sillar.errors import ConfigError


class DataLoader:
    """Batches (x, y) of up to `batch_size` rows, each with memory of its own.

    Every iteration is one epoch, from 0 on; its order depends on (seed, epoch) only.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise ConfigError(
                f"DataLoader: expected a Dataset, got {type(dataset).__name__};"
                " write DataLoader(Dataset(x, y))"
            )
        self.dataset = dataset
        self.batch_size = _integer(batch_size, "batch_size", least=1)
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self._rng = Rng(seed)
        self._next_epoch = 0
        if drop_last and 0 < len(dataset) < self.batch_size:
            raise ConfigError(
                "DataLoader: with drop_last=True, batch_size must be at most the"
                f" {len(dataset)} rows of the dataset, got {batch_size}, which leaves"
                " no batch; make it smaller or pass drop_last=False"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def epoch(self, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Return the batches of epoch `n`, whatever was iterated before."""
        return self._batches(self._order(_integer(n, "epoch", least=0)))

    def _order(self, epoch: int) -> np.ndarray:
        order: np.ndarray = np.arange(len(self.dataset))
        if self.shuffle:
            order = self._rng.split("shuffle", epoch).permutation(len(self.dataset))
        return order

    def _batches(self, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in range(len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield self.dataset.x.take(rows, axis=0), self.dataset.y.take(rows, axis=0)


def _integer(value: int, role: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(
            f"DataLoader: {role} must be an integer of at least {least}, got {value!r};"
            " give a larger whole number"
        )
    return int(value)
