"""The one record of a training run: what callbacks act on, and what is saved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sillar.nn import Layer, Loss
from sillar.optim import LossScale, Optimizer, SkipNonFinite, Transform
from sillar.train.ranks import ALONE, Alone

SAVED = ("epoch", "batch", "step", "sums", "metrics", "history")


@dataclass(repr=False)
class Run:
    """A training run, at one moment.

    `epoch` counts finished epochs, `batch` the finished batches of the present one and
    `step` all batches; `metrics` are the latest values and `history` one dictionary
    per epoch. A callback ends the run by setting `stop`, and `reason` says why. These
    two are not saved: who ends a run for good does so again in `on_start`.
    """

    model: Layer
    loss: Loss
    optimizer: Optimizer
    epochs: int
    batches: int  # per epoch
    seed: int
    transforms: tuple[Transform, ...] = ()
    directory: Path | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    stop: bool = False
    reason: str = ""
    interrupted: bool = False  # by Ctrl-C
    callbacks: tuple[Any, ...] = ()
    ranks: Alone = ALONE
    gradients: Any = None  # the step (x, y, rng) -> loss, outputs, gradients
    identity: dict[str, Any] = field(default_factory=dict)  # what a resume must share
    started: float = field(default_factory=time.perf_counter)
    waiting: Callable[[], bool] | None = None  # to count the last step
    _sums: dict[str, float] = field(default_factory=dict)
    _metrics: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        progress = f"epoch={self.epoch}/{self.epochs}, step={self.step}"
        return f"Run({progress}, metrics={self.metrics}, reason={self.reason!r})"

    @property
    def sums(self) -> dict[str, float]:
        """Return the sums over this epoch, the last step's included."""
        self.settle()
        return self._sums

    @sums.setter
    def sums(self, sums: dict[str, float]) -> None:
        self._sums = sums

    @property
    def metrics(self) -> dict[str, float]:
        """Return the latest values, the last step's included."""
        self.settle()
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: dict[str, float]) -> None:
        self._metrics = metrics

    def settle(self) -> bool:
        """Count the last step, if a device has not told yet; say if it was good."""
        waiting, self.waiting = self.waiting, None
        return waiting is None or waiting()

    def progress(self) -> dict[str, Any]:
        """Return the counters and records that a resumed run goes on from."""
        self.settle()  # first: it may put the counters back
        return {name: getattr(self, name) for name in SAVED}

    def end(self, reason: str) -> None:
        """Ask the run to stop after the present batch or epoch."""
        self.stop, self.reason = True, reason

    def interrupt(self) -> None:
        """Ask the run to stop because somebody pressed Ctrl-C."""
        self.interrupted = True
        self.end(f"interrupted in epoch {self.epoch + 1}")

    def accepts(self, loss: float) -> bool:
        """Say whether a batch with this loss goes to the optimizer.

        One that is not finite does only if a `SkipNonFinite` or a `LossScale` is there
        to judge it.
        """
        return math.isfinite(loss) or any(
            isinstance(transform, SkipNonFinite | LossScale)
            for transform in self.transforms
        )
