"""What `fit` is given, checked and brought into the form that the loop needs."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from sillar.core.rng import Rng
from sillar.data import Augmentation, DataLoader, Dataset
from sillar.errors import ConfigError, DataError
from sillar.nn import BinaryCrossEntropy, Layer, Loss
from sillar.optim import Optimizer
from sillar.train.evaluate import layers_of


def check_kinds(model: Any, loss: Any, optimizer: Any) -> None:
    """Raise unless each is an object of its kind, not a class or a function."""
    for value, kind in ((model, Layer), (loss, Loss), (optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise ConfigError(
                f"fit: expected an object of a class derived from {kind.__name__}, got"
                f" {value!r:.60}"
            )


def listed(name: str, things: Any) -> tuple[Any, ...]:
    """Return the things in a list."""
    if not isinstance(things, Iterable):
        raise ConfigError(
            f"fit: expected a list of {name}, got {things!r:.60}: write {name}=[...]"
        )
    return tuple(things)


def parts(train: Dataset, validation: Any, seed: int) -> tuple[Dataset, Dataset | None]:
    """Return the part to train on and the part that is held back, if any."""
    if not isinstance(train, Dataset):
        raise ConfigError(
            f"fit: expected a Dataset to train on, got {type(train).__name__}: write"
            " sillar.data.Dataset(x, y)"
        )
    held = validation
    if isinstance(validation, Real):
        stratify = train.classes is not None
        train, held = train.split(validation, seed=seed, stratify=stratify)
    elif not isinstance(validation, Dataset | None):
        raise ConfigError(
            "fit: validation must be a Dataset, a share in (0, 1) or a number of rows,"
            f" got {type(validation).__name__}"
        )
    for part in (train, held):
        if part is not None and len(part) == 0:
            raise ConfigError(
                f"fit: the data set {part.name!r} has no examples: give at least one"
            )
    return train, held


def check_targets(loss: Loss, part: Dataset) -> None:
    """Raise for targets that `BinaryCrossEntropy` would take for odd probabilities."""
    low, high = part.y.min(), part.y.max()
    if isinstance(loss, BinaryCrossEntropy) and not 0 <= low <= high <= 1:
        raise DataError(
            f"fit: BinaryCrossEntropy takes targets in [0, 1], got {low} to {high}: for"
            " more than two classes use CrossEntropy and one output for each"
        )


def batches(
    model: Layer,
    part: Dataset,
    batch_size: int,
    seed: int,
    *,
    workers: int = 0,
    augment: Iterable[Augmentation] = (),
    share: tuple[int, int] = (0, 1),
) -> DataLoader:
    """Return the batches; no last one of one example where that cannot be trained."""
    changes = listed("augment", augment)
    loader = DataLoader(
        *(part, batch_size),
        shuffle=True,
        seed=seed,
        workers=workers,
        augment=changes,
        share=share,
    )
    alone = len(part) > loader.batch_size and len(part) % loader.batch_size == 1
    loader.drop_last = alone and any(layer.mixes_batch for layer in layers_of(model))
    return loader


def identity(
    loader: DataLoader, held: Dataset | None, precision: str
) -> dict[str, Any]:
    """Return what a run that goes on must share with the one that was begun."""
    found = {
        "seed": loader.seed,
        "batch_size": loader.batch_size,
        "data": loader.dataset.digest(),
        "validation": held.digest() if held else None,
    }
    if precision != "float32":
        found["precision"] = precision
    if loader.augment is not None:
        found["augment"] = repr(loader.augment)
    return found


def fill(model: Layer, rng: Rng, precision: str = "float32") -> None:
    """Draw what has no value yet, in the type of the parameters that have one.

    Where none has, it is float32, or float64 if that is the precision.
    """
    parameters, buffers = model.parameters().values(), model.buffers().values()
    dtypes = [p.data.dtype for p in parameters if p.data is not None]
    if any(p.data is None for p in (*parameters, *buffers)):
        new = "float64" if precision == "float64" else "float32"
        model.init(rng, dtypes[0] if dtypes else new, keep=True)
    if precision == "float64" and any("float64" not in str(d) for d in dtypes):
        raise ConfigError(
            f"fit: precision='float64', but the model has weights of {dtypes[0]}: draw"
            " them with model.init(rng, 'float64')"
        )
