"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sillar.core.grad import grad
from sillar.core.rng import Rng
from sillar.data import DataLoader, Dataset
from sillar.errors import ConfigError
from sillar.nn import Layer, Loss
from sillar.optim import Optimizer, Penalty, Transform
from sillar.train.callbacks import Callback, MetricsLog, Progress, every
from sillar.train.checkpoint import FILE, Checkpoint, load_checkpoint
from sillar.train.evaluate import (
    as_input,
    is_classification,
    mean_loss,
    model_dtype,
    predict,
)
from sillar.train.run import Run


def fit(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    train: Dataset,
    *,
    validation: float | Dataset | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    callbacks: Iterable[Callback] = (Progress(),),
    transforms: Iterable[Transform] = (),
    penalty: Penalty | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
) -> Run:
    """Train the model and return the record of the run.

    `validation` is a data set, or the share of `train` to hold back. A model without
    values is initialised from `seed`, as are shuffling and dropout. With `run_dir`,
    metrics and a checkpoint are written after each epoch, and `resume=True` goes on
    from there to the same bits as a run that never stopped. Ctrl-C ends the run in
    order: callbacks finish, and the run is returned with its `reason`.
    """
    part, held = _parts(train, validation, seed)
    loader = DataLoader(part, batch_size, shuffle=True, seed=seed)
    model.init(Rng(seed).split("weights"), keep=True)
    optimizer.bind(model.parameters(), transforms=transforms, penalty=penalty)
    run = Run(model, loss, optimizer, _positive(epochs), len(loader), seed)
    run.callbacks = tuple(callbacks)
    run.identity = {"seed": seed, "batch_size": batch_size, "data": part.digest()}
    if run_dir is not None:
        run.directory = Path(run_dir)
        kept = (MetricsLog(run_dir), every(epochs=1)(Checkpoint(run_dir)))
        run.callbacks += kept
        if resume and (run.directory / FILE).exists():
            load_checkpoint(run, run.directory / FILE)
    _loop(run, loader, held)
    return run


def train_step(run: Run, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Apply one update; return the loss before it and the model's outputs."""
    rng = Rng(run.seed).split("step", run.step)
    dtype = model_dtype(run.model)
    outputs = run.model(as_input(x, dtype), rng=rng)
    value = run.loss(outputs, as_input(y, dtype))
    run.optimizer.step(grad(value, run.optimizer.params))
    return value.item(), outputs.numpy()


def _loop(run: Run, loader: DataLoader, held: Dataset | None) -> None:
    _notify(run, "on_start")
    try:
        while run.epoch < run.epochs and not run.stop:
            _epoch(run, loader, held)
    except KeyboardInterrupt:
        run.reason = f"interrupted in epoch {run.epoch + 1}"
    finally:
        _notify(run, "on_stop")


def _epoch(run: Run, loader: DataLoader, held: Dataset | None) -> None:
    start = time.perf_counter()
    labels = is_classification(loader.dataset)
    for x, y in islice(loader.epoch(run.epoch), run.batch, None):
        value, outputs = train_step(run, x, y)
        run.batch, run.step = run.batch + 1, run.step + 1
        _count(run, "loss", value * len(x))
        _count(run, "examples", len(x))
        if labels:
            _count(run, "hits", hits(outputs, y))
        run.metrics = _means(run)
        _notify(run, "on_step")
        if run.stop:
            return
    run.epoch, run.batch = run.epoch + 1, 0
    run.metrics = {
        "epoch": run.epoch,
        "step": run.step,
        **_means(run),
        **_validated(run, held),
        "lr": run.optimizer.rate,
        "seconds": round(time.perf_counter() - start, 3),
    }
    run.sums = {}
    run.history.append(run.metrics)
    if not math.isfinite(run.metrics["loss"]):
        run.end(
            f"the loss is {run.metrics['loss']}: lower the learning rate, clip the"
            " gradients with ClipNorm, or skip such steps with SkipNonFinite"
        )
    _notify(run, "on_epoch_end")


def _notify(run: Run, event: str) -> None:
    for callback in run.callbacks:
        getattr(callback, event)(run)


def _count(run: Run, name: str, value: float) -> None:
    run.sums[name] = run.sums.get(name, 0.0) + value


def _means(run: Run) -> dict[str, float]:
    n = run.sums["examples"]
    named = {"loss": "loss", "hits": "accuracy"}
    return {named[k]: v / n for k, v in run.sums.items() if k in named}


def _validated(run: Run, held: Dataset | None) -> dict[str, float]:
    if held is None:
        return {}
    outputs = predict(run.model, held.x)
    found = {"val_loss": mean_loss(run.loss, outputs, held.y)}
    if is_classification(held):
        found["val_accuracy"] = hits(outputs, held.y) / len(held)
    return found


def hits(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return how many outputs (n, c), or single logits, agree with the labels."""
    if outputs.ndim > labels.ndim and outputs.shape[-1] > 1:
        return float(np.sum(outputs.argmax(-1) == labels))
    return float(np.sum((outputs.reshape(labels.shape) > 0) == (labels > 0)))


def _parts(
    train: Dataset, validation: Any, seed: int
) -> tuple[Dataset, Dataset | None]:
    if not isinstance(train, Dataset):
        raise ConfigError(
            f"fit: expected a Dataset to train on, got {type(train).__name__}: write"
            " sillar.data.Dataset(x, y)"
        )
    if len(train) == 0:
        raise ConfigError("fit: the data set to train on has no examples")
    if validation is None or isinstance(validation, Dataset):
        return train, validation
    stratify = train.classes is not None
    return train.split(validation, seed=seed, stratify=stratify)


def _positive(epochs: int) -> int:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise ConfigError(f"fit: epochs must be an integer >= 0, got {epochs!r}")
    return epochs
