"""Callbacks: four events, one record, and a wrapper that says when."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sillar.errors import ConfigError
from sillar.optim.checks import at_least_zero, integer
from sillar.train.run import Run


class Callback:
    """Something that happens during a run. It acts through the `Run` alone.

    `saved` names the attributes that a resumed run needs: numbers, text, arrays, and
    lists and dictionaries of them. They are set again before `on_start`. Of a run that
    several processes share, one that `writes`, to a file or a screen, hears in the
    first of them only.
    """

    saved: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False

    def on_start(self, run: Run) -> None:
        """Happen once, before the first batch, also of a resumed run."""

    def on_step(self, run: Run) -> None:
        """Happen after each batch."""

    def on_epoch_end(self, run: Run) -> None:
        """Happen after each epoch, once `run.metrics` holds its values."""

    def on_stop(self, run: Run) -> None:
        """Happen once, however the run ended."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {name: getattr(self, name) for name in self.saved}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        for name in self.saved:
            setattr(self, name, state[name])


def every(
    *, steps: int | None = None, epochs: int | None = None
) -> Callable[[Callback], Callback]:
    """Let a callback's `on_step` or `on_epoch_end` happen at every n-th only.

    every(steps=100)(callback), every(epochs=5)(callback).
    """
    given = {"steps": steps, "epochs": epochs}
    if (steps is None) == (epochs is None):
        raise ConfigError(f"every: expected steps or epochs, one of them, got {given}")
    for name, n in given.items():
        if n is not None:
            integer(f"every: {name}", n)
    return partial(_Every, steps=steps, epochs=epochs)


class _Every(Callback):
    """A callback that hears of every n-th step, or of every n-th epoch, only."""

    def __init__(
        self, callback: Callback, *, steps: int | None, epochs: int | None
    ) -> None:
        self.callback = checked("every", callback)
        self.steps, self.epochs = steps, epochs

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


def checked(owner: str, callback: Any) -> Callback:
    """Return `callback` if it is one."""
    if not isinstance(callback, Callback):
        raise ConfigError(
            f"{owner}: expected a callback, got {callback!r:.60}: give an object, as in"
            " EarlyStopping(), of a class derived from Callback"
        )
    return callback


def unwrapped(callback: Callback) -> Callback:
    """Return the callback that every(...) was put around, or the callback itself."""
    return unwrapped(callback.callback) if isinstance(callback, _Every) else callback


class EarlyStopping(Callback):
    """Stop once `metric` has not improved for `patience` epochs; keep the best weights.

    The weights and buffers of the best epoch are put back however the run ends: by
    patience, at the last epoch, by Ctrl-C or by an error. An improvement of no more
    than `min_delta` does not count against patience. `mode` is "min" or "max"; by
    default losses and errors are minimised and everything else is maximised.
    """

    saved = ("best", "best_epoch", "mark", "waited", "weights")

    def __init__(
        self,
        metric: str = "val_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str | None = None,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise ConfigError(
                f"EarlyStopping: mode must be 'min' or 'max', got {mode!r}"
            )
        smaller = metric.endswith(("loss", "error", "mse", "mae"))
        self.metric = metric
        self.patience = integer("EarlyStopping: patience", patience)
        self.min_delta = at_least_zero("EarlyStopping: min_delta", min_delta)
        self.mode = mode or ("min" if smaller else "max")
        self._forget()

    def on_start(self, run: Run) -> None:
        if run.step == 0:  # not a resumed run
            self._forget()
        self._end_if_due(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.metric not in run.metrics:
            raise ConfigError(
                f"EarlyStopping: no metric {self.metric!r}, there are"
                f" {sorted(run.metrics)}: give fit a validation part, or name another"
            )
        value = run.metrics[self.metric] * (1 if self.mode == "min" else -1)
        if value < self.best:
            self.best, self.best_epoch = value, run.epoch
            self.weights = {k: np.array(v) for k, v in run.model.state().items()}
        if value < self.mark - self.min_delta:
            self.mark, self.waited = value, 0
        else:
            self.waited += 1
        self._end_if_due(run)

    def on_stop(self, run: Run) -> None:
        if self.weights:
            run.model.load_state(self.weights)

    def _forget(self) -> None:
        self.best = self.mark = math.inf  # of the metric to be minimised
        self.best_epoch = self.waited = 0
        self.weights: dict[str, np.ndarray] = {}

    def _end_if_due(self, run: Run) -> None:
        if self.waited < self.patience:
            return
        best = "it was never a number"
        if self.best_epoch:
            value = self.best if self.mode == "min" else -self.best
            best = f"best {value:.6g} after epoch {self.best_epoch}"
        run.end(f"{self.metric} has not improved for {self.waited} epochs; {best}")


class MetricsLog(Callback):
    """Write one JSON line per epoch to `metrics.jsonl` in a directory."""

    writes = True

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

    writes = True

    def on_start(self, run: Run) -> None:
        self.first_step, self.start = run.step, time.perf_counter()
        self.said = ""
        if run.gradients.note:
            print(run.gradients.note, file=sys.stderr, flush=True)

    def on_epoch_end(self, run: Run) -> None:
        if run.gradients.eager_because != self.said:
            self.said = run.gradients.eager_because
            print(f"not compiled: {self.said}", file=sys.stderr, flush=True)
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


def shown(metrics: Mapping[str, Any]) -> list[str]:
    """Return the metrics a person follows, as in `val_loss 0.1234`."""
    hidden = ("epoch", "step", "seconds", "lr")
    return [
        f"{name} {value:.4f}" if abs(value) < 1e6 else f"{name} {value:.4g}"
        for name, value in metrics.items()
        if name not in hidden and isinstance(value, Real)
    ]


def json_text(value: Any) -> str:
    """Return plain data as JSON; a number that is not finite becomes null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(metrics: Mapping[str, Any]) -> str:
    return json_text(metrics) + "\n"
