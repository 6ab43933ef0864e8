"""The step of a batch that ranks share: the gradient is a sum over parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sillar.backends import backend_of
from sillar.core.ops import astype
from sillar.core.rng import Rng
from sillar.core.share import Share, over_shares
from sillar.core.tape import lift, place
from sillar.core.tensor import Tensor, wrap
from sillar.data.loader import part
from sillar.errors import ConfigError
from sillar.nn import BatchNorm, Loss
from sillar.train.evaluate import layers_of, shaped_as
from sillar.train.step import Step

if TYPE_CHECKING:
    from sillar.distributed.mpi.ranks import Ranks


class RankStep(Step):
    """A step that each rank calls with its share, and all with the same result.

    The gradient of a part counts as much as its share of what the mean is divided by,
    which losses with weights or ignored labels count themselves.
    """

    def __init__(self, ranks: Ranks, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ranks = ranks
        self.mixes = any(layer.mixes_batch for layer in layers_of(self.model))
        self._check()
        home = backend_of(self.params.vector) if self.params else None
        if self.mixes and home is not None and home.name == "jax":
            self._compiled = None  # an XLA program cannot ask other processes
            self.eager_because = "batch normalisation asks the other ranks"

    def _check(self) -> None:
        for layer in layers_of(self.model):
            if layer.mixes_batch and not isinstance(layer, BatchNorm):
                raise ConfigError(
                    f"Ranks: {layer!r:.60} lets examples of a batch depend on each"
                    " other, in a way that only batch normalisation can do over several"
                    " ranks: train it in one process"
                )
        if self.mixes and self.ranks.each > 1:
            raise ConfigError(
                f"Ranks: parts={self.ranks.parts} on {self.ranks.size} ranks gives each"
                f" {self.ranks.each} parts, but batch normalisation needs all at once:"
                " leave parts away, or start as many ranks as parts"
            )
        if self.loss.reduction == "none" or (
            type(self.loss).compute is not Loss.compute
        ):
            raise ConfigError(
                f"Ranks: expected a loss that is a mean or sum of its elements, got"
                f" {self.loss!r:.60}, which computes another number: derive it from"
                " Loss with elements, slopes and count alone"
            )

    def __call__(self, x: Any, y: Any, rng: Rng, *more: Any) -> Any:
        """Return loss and gradient of the whole batch, and the share's own outputs."""
        ranks, own = self.ranks, len(x)
        sizes = [int(row[0]) for row in ranks.everywhere([own])]
        of, before = sum(sizes), sum(sizes[: ranks.rank])
        outputs, vectors, sums = [], [], []
        for i in range(ranks.rank * ranks.each, (ranks.rank + 1) * ranks.each):
            rows = part(of, i, ranks.parts)
            here = slice(rows.start - before, rows.stop - before)
            with Share(rows.start, rows.stop, of, ranks.add):
                loss, out, gradient, count = super().__call__(
                    *(x[here], y[here], rng, rows.start, of)
                )
            counted = float(count.item())
            sums.append((loss.item() * counted if counted else 0.0, counted))
            keep = np.array if ranks.each > 1 else np.asarray  # memory is used again
            outputs.append(keep(out.numpy()))
            vectors.append(keep(gradient.numpy()))
        weights, value = self._weights(ranks.everywhere(sums).reshape(-1, 2))
        total = ranks.sum(vectors, weights[ranks.rank * ranks.each :][: ranks.each])
        home = backend_of(gradient.data)
        found = home.from_numpy(total)
        return Tensor(np.float64(value)), wrap(np.concatenate(outputs)), wrap(found)

    def _weights(self, sums: np.ndarray) -> tuple[list[float], float]:
        """Return how much each part's gradient counts, and the whole batch's loss."""
        losses, counts = (sum(column) for column in sums.T.tolist())
        if self.loss.reduction == "sum" or not counts:
            return [float(c > 0) for c in sums[:, 1]], losses
        if self.mixes:  # the gradients are weighted already
            return [1.0] * len(sums), losses / counts
        return [c / counts for c in sums[:, 1].tolist()], losses / counts

    def plain(self, x: Any, y: Any, rng: Rng, *more: Any) -> Any:
        """Return what a step does, and what its loss is a mean of."""
        _start, _of, *scale = more  # a plan is for rows in their place
        return *super().plain(x, y, rng, *scale), self.count

    def scaling(self, loss: Tensor, outputs: Tensor, y: Any, scale: Any) -> Any:
        """Return the scale; for layers that mix a batch, that of the whole loss."""
        mean, count = self.loss.reduction == "mean", 1
        if mean:
            count = self.loss.count(outputs, shaped_as(self.loss, outputs, y))
        home = backend_of(loss.data).name
        counted = place(lift(count if y.shape[0] else 0), backend=home)
        self.count = astype(counted, dtype=loss.dtype)
        if not (self.mixes and mean):
            return scale
        weight = self.count / over_shares(self.count)
        return weight if scale is None else weight * scale
