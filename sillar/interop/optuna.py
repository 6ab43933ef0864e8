"""Searches by Optuna: trials that tell how they go, and end early if it is badly."""

from __future__ import annotations

from typing import Any

from sillar.errors import missing
from sillar.train import Callback, Run

try:
    import optuna
except ImportError:
    raise missing("Optuna", "tune", "a search by Optuna") from None


class Pruning(Callback):
    """Report `metric` to an Optuna trial after each epoch, and end it when it is told.

    The trial's study needs a pruner, as `optuna.pruners.MedianPruner()`, and a
    direction that fits the metric.
    """

    def __init__(self, trial: Any, metric: str = "val_loss") -> None:
        self.trial, self.metric = trial, metric

    def on_epoch_end(self, run: Run) -> None:
        if self.metric not in run.metrics:
            raise optuna.exceptions.OptunaError(
                f"Pruning: no metric {self.metric!r}, there are {sorted(run.metrics)}"
            )
        self.trial.report(run.metrics[self.metric], run.epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(
                f"{self.metric} {run.metrics[self.metric]:.4g} after epoch {run.epoch}"
            )
