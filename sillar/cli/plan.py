"""From a checked recipe to the objects that `fit` takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sillar import data, nn, optim
from sillar.backends import OPTIONAL, load
from sillar.cli.detecting import DETECTORS
from sillar.cli.origin import Parts, Source
from sillar.cli.recipe import leaves
from sillar.cli.sources import source
from sillar.core.rng import Rng
from sillar.data import Dataset
from sillar.describe import construct, signature
from sillar.detectors.rounds import Rounds
from sillar.errors import ConfigError
from sillar.nn import Layer, Loss
from sillar.nn.architecture import build
from sillar.nn.layers import at_least
from sillar.optim import Accumulate, Optimizer, Schedule
from sillar.train import EarlyStopping, fit, precision, predict
from sillar.train.evaluate import class_count, mean_loss, scores_of
from sillar.train.prepare import batches, fill

FIT = (
    "epochs",
    "batch_size",
    "seed",
    "workers",
    "precision",
)  # of [training], as `fit` has them
WITHOUT = ("data.folder", "training.workers", "training.track")  # effect on results
LARGEST = 2**48  # no machine has memory for more parameters
LOSSES = {
    kind.__name__: kind
    for kind in (
        *(nn.BinaryCrossEntropy, nn.CrossEntropy, nn.Focal, nn.Hinge),
        *(nn.Huber, nn.MAE, nn.MSE),
    )
}
OPTIMIZERS = {
    kind.__name__: kind
    for kind in (optim.Adam, optim.AdamW, optim.Lion, optim.RMSprop, optim.SGD)
}
SCHEDULES = {
    kind.__name__: kind
    for kind in (
        *(optim.Constant, optim.CosineAnnealing, optim.CosineRestarts),
        *(optim.ExponentialDecay, optim.LinearWarmup, optim.OneCycle, optim.StepDecay),
    )
}
LENGTHS = {"CosineAnnealing": "steps", "OneCycle": "steps", "CosineRestarts": "period"}
TRANSFORMS = {
    kind.__name__: kind
    for kind in (
        *(optim.Accumulate, optim.ClipNorm, optim.ClipValue, optim.LossScale),
        optim.SkipNonFinite,
    )
}
PLAIN = {"str": str, "str | None": str, "int": int, "int | None": int}  # annotations
AUGMENTATIONS = {
    kind.__name__: kind
    for kind in (
        *(data.Brightness, data.Crop, data.Flip, data.Noise, data.Rotation),
        data.Shift,
    )
}
PENALTIES = {kind.__name__: kind for kind in (optim.L1, optim.L2)}


@dataclass
class Plan:
    """Everything a run needs."""

    parts: Parts
    digests: dict[str, str]  # of the parts
    model: Layer
    loss: Loss
    optimizer: Optimizer
    notes: dict[str, Any]  # what is kept in the model's file
    stopping: list[EarlyStopping]  # none or one
    arguments: dict[str, Any]  # further ones of `fit`
    complete: Callable[[Layer, Path], tuple[Layer, dict[str, Any]]] | None = None

    def finish(self, directory: Path) -> None:
        """Build the detector of the recipe, if any, around the trained model.

        What is done of it is kept in the run's directory.
        """
        if self.complete is not None:
            self.model, notes = self.complete(self.model, directory)
            self.notes |= notes


def make_plan(recipe: dict[str, Any]) -> Plan:
    """Return the plan of a checked recipe, all of which was tried on two examples."""
    _check_training(recipe["training"])
    detector = recipe["detector"] and make("detector", recipe["detector"], DETECTORS)
    origin, seed = source(recipe), recipe["training"]["seed"]
    plan = plan_of(recipe, origin, origin.parts(seed))
    if detector:
        settings = _settings(recipe, plan.digests["train"])

        def complete(model: Layer, directory: Path) -> tuple[Layer, dict[str, Any]]:
            train = partial(trained, recipe, origin)
            kept = Rounds(directory, settings)
            found: tuple[Layer, dict[str, Any]]
            found = detector.complete(model, origin, train, seed, kept)
            return found

        plan.complete = complete
    return plan


def _settings(recipe: dict[str, Any], digest: str) -> str:
    """Return all that a detector's rounds depend on, as one text."""
    names = {name: value for name, value in leaves(recipe) if name not in WITHOUT}
    return json.dumps([digest, sorted(names.items())], default=str)


def trained(recipe: dict[str, Any], origin: Source, part: Dataset) -> Layer:
    """Return another model of the recipe, trained on other rows, in silence."""
    plan = plan_of(recipe, origin, Parts(part, None, part))
    fit(*(plan.model, plan.loss, plan.optimizer, part), callbacks=(), **plan.arguments)
    return plan.model


def plan_of(recipe: dict[str, Any], origin: Source, parts: Parts) -> Plan:
    """Return the plan of a checked recipe for these parts."""
    training, loss = recipe["training"], make_loss(recipe)
    model = build_model(recipe, parts.train, origin)
    changes = make_each("data.augment", origin.augment, AUGMENTATIONS)
    sizes = training["batch_size"], training["seed"]
    loader = batches(model, parts.train, *sizes, augment=changes)
    if changes:
        loader.batch(0, 0)  # mistakes show here, too
    transforms = make_each("training.transforms", training["transforms"], TRANSFORMS)
    penalty = training["penalty"] or None
    if penalty is not None:
        penalty = make("training.penalty", penalty, PENALTIES)
    held_back = math.prod(t.steps for t in transforms if isinstance(t, Accumulate))
    updates = max(1, training["epochs"] * len(loader) // held_back)
    optimizer = make_optimizer(recipe, updates)
    trial = build_model(recipe, parts.train, origin).init(Rng(0))
    optimizer.bind(trial.parameters(), transforms=transforms, penalty=penalty)
    notes = make_notes(origin, parts.train, rehearse(trial, loss, parts.train))
    arguments = {name: training[name] for name in FIT}
    return Plan(
        parts,
        parts.digests(),
        _placed(model, training),
        loss,
        optimizer,
        notes,
        make_stopping(training["early_stopping"], parts, notes["classes"] is not None),
        arguments
        | {
            "validation": parts.validation,
            "transforms": transforms,
            "augment": changes,
            "penalty": penalty,
        },
    )


def make_each(owner: str, tables: Sequence[Any], kinds: dict[str, Any]) -> list[Any]:
    """Return what each of the tables describes."""
    return [make(f"{owner}.{i}", table, kinds) for i, table in enumerate(tables)]


def _placed(model: Layer, training: dict[str, Any]) -> Layer:
    """Return the model with its first values, as `fit` draws them, on its device."""
    fill(model, Rng(training["seed"]).split("weights"), training["precision"])
    return model.to(training["backend"], training["device"])


def make(owner: str, table: Any, kinds: dict[str, Any]) -> Any:
    """Return construct(owner, table, kinds), text and integers having been checked."""
    name = table.get("type") if isinstance(table, dict) else None
    kind = kinds.get(name) if isinstance(name, str) else None
    for argument, spec in signature(kind).items() if kind else ():
        wanted = PLAIN.get(str(spec.annotation))
        value = table.get(argument, spec.default)
        if wanted and value is not spec.default and type(value) is not wanted:
            raise ConfigError(
                f"{owner}: {argument} of {name} must be of type {wanted.__name__}, got"
                f" {value!r:.60}"
            )
    return construct(owner, table, kinds)


def make_loss(recipe: dict[str, Any]) -> Loss:
    """Return the loss, which must be one number for a batch."""
    loss: Loss = make("loss", recipe["loss"], LOSSES)
    if loss.reduction == "none":
        raise ConfigError("loss: training needs one number: reduction mean or sum")
    return loss


def build_model(
    recipe: dict[str, Any], data: Dataset | None = None, origin: Source | None = None
) -> Layer:
    """Return the model that [model] describes; it has no values yet.

    Words in it stand for what the data has: "classes" for how many there are, "inputs"
    for how many numbers an example is, "codes" for how many of each code there are, and
    "scale" and "offset" for deviation and mean of the values to learn.
    """
    words: dict[str, Any] = {} if origin is None else origin.words()
    if data is not None:
        words["inputs"] = math.prod(data.x.shape[1:])
        if data.classes:
            words["classes"] = len(data.classes)
        if data.y.dtype.kind == "f" and data.y.size:
            words["scale"] = float(data.y.std()) or 1.0
            words["offset"] = float(data.y.mean())
    table = _worded(recipe["model"], words)
    model = build({"type": "Sequential"} | table, "model")
    if not 0 < model.parameters().size < LARGEST:
        raise ConfigError(
            f"model: expected from 1 to {LARGEST - 1} numbers to train, got"
            f" {model.parameters().size}: look at its layers"
        )
    return model


def _worded(value: Any, words: dict[str, Any]) -> Any:
    """Return plain data with numbers where it says "classes", "inputs" or the like."""
    if isinstance(value, dict):
        return {name: _worded(part, words) for name, part in value.items()}
    if isinstance(value, list):
        return [_worded(part, words) for part in value]
    if value not in ("classes", "inputs", "codes", "scale", "offset"):
        return value
    if value not in words:
        raise ConfigError(
            f'model: "{value}" stands for what the data has, but it has none: write a'
            " number"
        )
    return words[value]


def make_optimizer(recipe: dict[str, Any], updates: int) -> Optimizer:
    """Return the optimizer; a schedule without a length has that of the run."""
    table, schedule = recipe["optimizer"], recipe["schedule"]
    optimizer: Optimizer = make("optimizer", table, OPTIMIZERS)
    if not schedule:
        return optimizer
    if "lr" in table and any(key.endswith("lr") for key, _ in leaves(schedule)):
        raise ConfigError("schedule: lr stands in [optimizer] too; give it once")
    rate = make_schedule("schedule", schedule, optimizer.lr, updates)
    scheduled: Optimizer = make("optimizer", {**table, "lr": rate}, OPTIMIZERS)
    return scheduled


def make_schedule(owner: str, table: Any, lr: float, updates: int) -> Schedule:
    """Return a schedule; rate and length of the run stand in where it gives none."""
    kind = table.get("type") if isinstance(table, dict) else None
    if isinstance(kind, str) and kind in SCHEDULES:
        defaults: dict[str, Any] = {}
        if "lr" in signature(SCHEDULES[kind]):
            defaults["lr"] = lr
        if kind in LENGTHS:
            defaults[LENGTHS[kind]] = updates
        table = defaults | table
        if "schedule" in table and isinstance(table.get("steps"), int):
            left = max(1, updates - table["steps"])
            inner = make_schedule(f"{owner}.schedule", table["schedule"], lr, left)
            table["schedule"] = inner
    schedule: Schedule = make(owner, table, SCHEDULES)
    return schedule


def make_stopping(table: dict[str, Any], parts: Parts, labels: bool) -> list[Any]:
    """Return the early stopping, if any, whose metric will be there."""
    owner, kinds = "training.early_stopping", {"EarlyStopping": EarlyStopping}
    if not table:
        return []
    stopping = make(owner, {"type": "EarlyStopping", **table}, kinds)
    present = ["loss", "accuracy"] if labels else ["loss"]
    if parts.validation is not None:
        present += [f"val_{name}" for name in present]
    if stopping.metric not in present:
        raise ConfigError(
            f"{owner}: no metric {stopping.metric!r:.40}, there will be"
            f" {', '.join(present)}: set data.validation, or name another metric"
        )
    return [stopping]


def make_notes(origin: Source, train: Dataset, outputs: np.ndarray) -> dict[str, Any]:
    """Return what the model's users want to know: classes, shape of an example, more.

    There are no classes where the outputs are values.
    """
    classes = list(train.classes) if train.classes is not None else None
    if (
        classes is None
        and scores_of(outputs, few(train).y, class_count(train)) is not None
    ):
        classes = [str(label) for label in range(max(2, outputs.shape[-1]))]
    notes = {"classes": classes, "input": list(train.x.shape[1:])}
    return notes | origin.notes


def few(train: Dataset) -> Dataset:
    """Return the two examples with the least and the greatest answer."""
    if train.y.size != len(train):
        return train[[0, -1]]
    return train[[int(train.y.argmin()), int(train.y.argmax())]]


def rehearse(model: Layer, loss: Loss, train: Dataset) -> np.ndarray:
    """Return the outputs of a model without training, for `few` examples.

    Mistakes in a recipe show here, before a run begins.
    """
    examples = few(train)
    outputs = predict(model, examples.x)
    mean_loss(loss, outputs, examples.y)
    return outputs


def _check_training(training: dict[str, Any]) -> None:
    for name in ("epochs", "batch_size"):
        at_least("training", name, training[name], 1)
    at_least("training", "workers", training["workers"], 0)
    if not isinstance(training["track"], bool):
        raise ConfigError(
            f"training: track must be true or false, got {training['track']!r:.40}"
        )
    unknown = set(training["ranks"]) - {"parts", "compress", "timeout"}
    if unknown:
        raise ConfigError(
            f"training.ranks: expected parts, compress and timeout, got"
            f" {sorted(unknown)!r:.60}"
        )
    precision.checked("training", training["precision"])
    backend, device = training["backend"], training["device"]
    if backend not in ("numpy", *OPTIONAL):
        raise ConfigError(
            f"training: unknown back end {backend!r:.40}; this release has"
            f" {', '.join(('numpy', *OPTIONAL))}"
        )
    if not isinstance(device, str):
        raise ConfigError(f"training: device must be text, got {device!r:.40}")
    load(backend).from_numpy(np.empty(0), device)  # says if it is not there
