"""The training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.data import Augmentation, DataLoader, Dataset
from sillar.errors import ConfigError
from sillar.nn import Layer, Loss
from sillar.optim import Optimizer, Penalty, Transform
from sillar.optim.checks import integer
from sillar.train import precision as precisions
from sillar.train.callbacks import (
    Callback,
    MetricsLog,
    Progress,
    checked,
    every,
    unwrapped,
)
from sillar.train.checkpoint import FILE, Checkpoint, load_checkpoint
from sillar.train.evaluate import (
    class_count,
    converter,
    gives_logits,
    hits,
    mean_loss,
    predict,
    scores_of,
)
from sillar.train.prepare import (
    batches,
    check_kinds,
    check_targets,
    fill,
    identity,
    listed,
    parts,
)
from sillar.train.ranks import ALONE, Alone
from sillar.train.run import Run
from sillar.train.step import Step
from sillar.train.whole import whole

Counter = Callable[[np.ndarray, float, np.ndarray], None]


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
    compiled: bool | None = None,
    workers: int = 0,
    augment: Iterable[Augmentation] = (),
    precision: str = "float32",
    ranks: Alone = ALONE,
) -> Run:
    """Train the model and return the record of the run.

    `validation` is a data set, or the share of `train` to hold back. A model without
    values is initialised from `seed`, as are shuffling and dropout. With `run_dir`,
    metrics and a checkpoint are written after each epoch, and `resume=True` goes on
    from there to the same bits as a run that never stopped.

    Ctrl-C ends the run in order after the present batch; a second one at once. A batch
    whose loss is not finite changes nothing and ends the run too; its `reason` says
    why. Where a last batch of one example would meet a batch normalisation, each epoch
    leaves one example out.

    The step is compiled (`sillar.compile`), anew for each epoch, if every layer is
    Sillar's own; with layers of your own pass `compiled=True`, if their Python does the
    same at every step of an epoch. The progress says what could not be compiled. To set
    a layer's attribute within an epoch, pass `compiled=False`.

    With `workers`, that many processes read the batches ahead; see `DataLoader`.
    `augment` changes the images that are trained on, as in [Flip(), Shift(2)].

    A `precision` of "bfloat16" or "float16" holds what waits for the backward pass in
    16 bits, and multiplies in them where the device is fast at that; weights stay as
    they are. "float64" draws the weights of a new model in 64 bits.

    `ranks` are the processes that share the run, `sillar.distributed.mpi.Ranks()`: each
    does its part of every batch, and all have the weights that one would have.
    """
    check_kinds(model, loss, optimizer)
    precision = precisions.checked("fit", precision)
    part, held = parts(train, validation, seed)
    check_targets(loss, part)
    sizes, reading = (batch_size, seed), {"workers": workers, "share": ranks.share}
    loader = batches(model, part, *sizes, augment=augment, **reading)
    epochs = integer("fit: epochs", epochs, low=0)
    run = Run(model, loss, optimizer, epochs, len(loader), int(seed), ranks=ranks)
    run.transforms = precisions.scaled(precision, listed("transforms", transforms))
    run.callbacks = tuple(checked("fit", c) for c in listed("callbacks", callbacks))
    run.identity = identity(loader, held, precision)
    fill(model, Rng(seed).split("weights"), precision)
    optimizer.bind(model.parameters(), transforms=run.transforms, penalty=penalty)
    run.gradients = _step(run, compiled, precision)
    with ranks.together(), _ended_by_ctrl_c(run), loader:
        _open(run, run_dir, resume)
        _loop(run, loader, held)
    return run


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # the loss tells
def train_step(run: Run, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Apply one update; return the loss before it and the model's outputs.

    A loss that is not finite moves no buffer, and no weight unless the run accepts it;
    a step that raises moves nothing.
    """
    before = run.gradients.copies()
    rng = Rng(run.seed).split("step", run.step)
    try:
        loss, outputs, gradient = run.gradients(x, y, rng)
    except BaseException:
        run.gradients.put_back(before)
        raise
    value = loss.item()
    if run.accepts(value):
        run.optimizer.step(gradient)
    if not math.isfinite(value):
        run.gradients.put_back(before)
    return value, outputs.numpy()


def _step(run: Run, compiled: bool | None, precision: str) -> Step:
    step = run.ranks.step(
        *(run.model, run.loss, run.optimizer.params),
        compiled=compiled,
        precision=precision,
        scale=precisions.loss_scale(run.transforms),
    )
    step.whole = whole(step, run.optimizer)
    return step


def _loop(run: Run, loader: DataLoader, held: Dataset | None) -> None:
    started: list[Callback] = []
    with ExitStack() as stack:  # every callback stops, whatever the others do
        try:
            for callback in _hearing(run):
                started.append(callback)
                callback.on_start(run)
            while run.epoch < run.epochs and not run.ranks.stopped(run):
                _epoch(run, loader, held)
        except KeyboardInterrupt:
            if run.stop:
                raise
            run.interrupt()
        finally:
            for callback in reversed(started):
                stack.callback(callback.on_stop, run)


def _epoch(run: Run, loader: DataLoader, held: Dataset | None) -> None:
    start = time.perf_counter()
    run.gradients.renew()
    convert, count = converter(run.model), _counter(run, loader.dataset)
    for x, y in loader.epoch(run.epoch, run.batch):
        if not _take(run, convert(x), y, count):
            return
        _notify(run, "on_step")
        if run.ranks.stopped(run):
            run.settle()
            return
    if not run.settle():
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
    run.ranks.check(run)
    run.history.append(run.metrics)
    if math.isnan(run.metrics["loss"]):
        run.end("every batch of the epoch was skipped: lower the learning rate")
    _notify(run, "on_epoch_end")


def _take(run: Run, x: np.ndarray, y: np.ndarray, count: Counter) -> bool:
    """Take one step, and let it be counted; say if the run goes on.

    What a device does is counted when somebody asks, or while it does the next step.
    """
    before = run.batch, run.step, run.optimizer.updates
    whole = run.gradients.whole
    if whole is not None:
        tell = whole(x, y, Rng(run.seed).split("step", run.step))
    else:
        told = train_step(run, x, y)

    def counted() -> bool:
        value, outputs = told if whole is None else tell()
        if not run.accepts(value):
            run.batch, run.step, run.optimizer.updates = before
            run.end(_why_not_finite(run, value, x))
            return False
        if math.isfinite(value):
            count(y, value, outputs)
        run.metrics = _means(run)
        return True

    if not run.settle():  # the step before
        return False
    run.batch, run.step, run.waiting = run.batch + 1, run.step + 1, counted
    return whole is not None or run.settle()


def _counter(run: Run, data: Dataset) -> Counter:
    """Return what adds a step's loss, and how often it was right, to the run's sums."""
    classes, logits = class_count(data), gives_logits(run.model)

    def count(y: np.ndarray, value: float, outputs: np.ndarray) -> None:
        amounts = {"loss": value * len(y), "examples": len(y)}
        scores = scores_of(outputs, y, classes)
        if scores is not None:
            found = hits(scores, y, logits, data.ignored)
            amounts |= zip(("hits", "labels"), found, strict=True)
        _add(run, **run.ranks.total(amounts))

    return count


def _notify(run: Run, event: str) -> None:
    for callback in _hearing(run):
        getattr(callback, event)(run)


def _hearing(run: Run) -> list[Callback]:
    """Return the callbacks that hear of events in this process."""
    first = run.ranks.rank == 0
    return [c for c in run.callbacks if first or not unwrapped(c).writes]


def _add(run: Run, **amounts: float) -> None:
    for name, amount in amounts.items():
        run.sums[name] = run.sums.get(name, 0) + amount


def _means(run: Run) -> dict[str, float]:
    """Return loss and accuracy over the batches that had a finite loss."""
    sums = run.sums
    found = {"loss": sums["loss"] / sums["examples"] if sums else math.nan}
    if "labels" in sums:
        found["accuracy"] = sums["hits"] / sums["labels"]
    return found


def _validated(run: Run, held: Dataset | None) -> dict[str, float]:
    if held is None:
        return {}
    outputs = run.ranks.outputs(predict, run.model, held.x)
    found = {"val_loss": mean_loss(run.loss, outputs, held.y)}
    scores = scores_of(outputs, held.y, class_count(held))
    if scores is not None:
        logits = gives_logits(run.model)
        right, labels = hits(scores, held.y, logits, held.ignored)
        found["val_accuracy"] = right / labels
    return found


def _why_not_finite(run: Run, loss: float, x: np.ndarray) -> str:
    where = f"the loss is {loss} in step {run.step + 1}"
    if run.ranks.total({"bad": not np.isfinite(x).all()})["bad"]:
        return f"{where}: its inputs are not finite, clean the data"
    return (
        f"{where}: lower the learning rate, clip the gradients with ClipNorm, or skip"
        " such steps with SkipNonFinite"
    )


@contextmanager
def _ended_by_ctrl_c(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C end the run after the present batch, the second at once.

    So that no update of the weights is cut in two. Whoever handles Ctrl-C already
    keeps it, and only the main thread may.
    """
    usual = signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def end(*_: Any) -> None:
        signal.signal(signal.SIGINT, usual)
        run.interrupt()

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _open(run: Run, run_dir: str | Path | None, resume: bool) -> None:
    """Add what writes to the run's directory, and go on from what is there."""
    if run_dir is not None:
        run.directory = Path(run_dir)
        run.callbacks += (MetricsLog(run_dir), every(epochs=1)(Checkpoint(run_dir)))
    elif resume:
        raise ConfigError("fit: resume=True needs run_dir, the run to go on with")
    run.callbacks = tuple(sorted(run.callbacks, key=_saves))  # saves what others did
    there = run.directory is not None and (run.directory / FILE).exists()
    run.ranks.same("whether there is a checkpoint", there)
    if run.directory is not None and there:
        if not resume:
            raise ConfigError(
                f"fit: there is a run in {run.directory}: pass resume=True to go on"
                " with it, or choose another run_dir"
            )
        load_checkpoint(run, run.directory / FILE)
    run.ranks.begin(run)


def _saves(callback: Callback) -> bool:
    return isinstance(unwrapped(callback), Checkpoint)
