"""Callbacks: four events, one record, and a wrapper that says when."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sillar.errors import ConfigError
from sillar.train.run import Run


class Callback:
    """Something that happens during a run. It acts through the `Run` alone."""

    saved: ClassVar[tuple[str, ...]] = ()  # attributes that a resumed run needs

    def on_start(self, run: Run) -> None:
        """Happen once, before the first batch, also of a resumed run."""

    def on_step(self, run: Run) -> None:
        """Happen after each batch."""

    def on_epoch_end(self, run: Run) -> None:
        """Happen after each epoch, once `run.metrics` holds its values."""

    def on_stop(self, run: Run) -> None:
        """Happen once, however the run ended."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs: numbers, text and arrays."""
        return {name: getattr(self, name) for name in self.saved}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        for name in self.saved:
            setattr(self, name, state[name])


class every(Callback):  # noqa: N801 - reads as a sentence: every(steps=100)(callback)
    """Let a callback's `on_step` or `on_epoch_end` happen at every n-th only.

    every(steps=100)(callback), every(epochs=5)(callback).
    """

    def __init__(self, *, steps: int | None = None, epochs: int | None = None) -> None:
        if (steps is None) == (epochs is None) or min(steps or 1, epochs or 1) < 1:
            raise ConfigError(
                "every: give steps or epochs, one integer >= 1, got"
                f" steps={steps!r}, epochs={epochs!r}"
            )
        self.steps, self.epochs = steps, epochs
        self.callback = Callback()

    def __call__(self, callback: Callback) -> every:
        """Return a callback that passes on what is due."""
        wrapped = every(steps=self.steps, epochs=self.epochs)
        wrapped.callback = callback
        return wrapped

    def on_start(self, run: Run) -> None:
        self.callback.on_start(run)

    def on_step(self, run: Run) -> None:
        if self.steps is not None and run.step % self.steps == 0:
            self.callback.on_step(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.epochs is not None and run.epoch % self.epochs == 0:
            self.callback.on_epoch_end(run)

    def on_stop(self, run: Run) -> None:
        self.callback.on_stop(run)

    def state(self) -> dict[str, Any]:
        return self.callback.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.callback.load_state(state)


class EarlyStopping(Callback):
    """Stop once `metric` has not improved for `patience` epochs; keep the best weights.

    The weights and buffers of the best epoch are put back however the run ends: by
    patience, at the last epoch, or by Ctrl-C. `mode` is "min" or "max"; by default
    losses and errors are minimised and everything else is maximised.
    """

    saved = ("best", "best_epoch", "waited", "weights")

    def __init__(
        self,
        metric: str = "val_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str | None = None,
    ) -> None:
        if patience < 1:
            raise ConfigError(f"EarlyStopping: patience must be >= 1, got {patience!r}")
        if mode not in (None, "min", "max"):
            raise ConfigError(
                f"EarlyStopping: mode must be 'min' or 'max', got {mode!r}"
            )
        smaller = metric.endswith(("loss", "error"))
        self.metric, self.patience, self.min_delta = metric, patience, min_delta
        self.mode = mode or ("min" if smaller else "max")
        self.best, self.best_epoch, self.waited = math.inf, 0, 0
        self.weights: dict[str, np.ndarray] = {}

    def on_epoch_end(self, run: Run) -> None:
        if self.metric not in run.metrics:
            raise ConfigError(
                f"EarlyStopping: no metric {self.metric!r}, there are"
                f" {sorted(run.metrics)}: give fit a validation part, or name another"
            )
        value = run.metrics[self.metric] * (1 if self.mode == "min" else -1)
        if value < self.best - (self.min_delta if self.weights else 0):
            self.best, self.best_epoch, self.waited = value, run.epoch, 0
            self.weights = {k: np.array(v) for k, v in run.model.state().items()}
        else:
            self.waited += 1
        if self.waited >= self.patience:
            best = self.best if self.mode == "min" else -self.best
            run.end(
                f"{self.metric} has not improved for {self.waited} epochs; best"
                f" {best:.6g} after epoch {self.best_epoch}"
            )

    def on_stop(self, run: Run) -> None:
        if self.weights:
            run.model.load_state(self.weights)


class MetricsLog(Callback):
    """Write one JSON line per epoch to `metrics.jsonl` in a directory."""

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "metrics.jsonl"

    def on_start(self, run: Run) -> None:
        """Write the epochs a resumed run already has, and no others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(map(_line, run.history)))

    def on_epoch_end(self, run: Run) -> None:
        with self.path.open("a") as file:
            file.write(_line(run.metrics))


class Progress(Callback):
    """Print one line per epoch with rate, time left and metrics to standard error."""

    def on_start(self, run: Run) -> None:
        self.first_step, self.start = run.step, time.perf_counter()

    def on_epoch_end(self, run: Run) -> None:
        seconds = time.perf_counter() - self.start
        rate = (run.step - self.first_step) / max(seconds, 1e-9)
        left = (run.epochs - run.epoch) * run.batches / max(rate, 1e-9)
        values = "  ".join(shown(run.metrics))
        print(
            f"epoch {run.epoch}/{run.epochs}  {values}  {rate:.1f} steps/s"
            f"  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    def on_stop(self, run: Run) -> None:
        if run.reason:
            print(f"stopped: {run.reason}", file=sys.stderr, flush=True)


def shown(metrics: Mapping[str, float]) -> list[str]:
    """Return the metrics a person follows, as in `val_loss 0.1234`."""
    hidden = ("epoch", "step", "seconds", "lr")
    return [f"{k} {v:.4f}" for k, v in metrics.items() if k not in hidden]


def _line(metrics: Mapping[str, float]) -> str:
    return json.dumps(dict(metrics)) + "\n"
