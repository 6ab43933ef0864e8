"""Intrusion: a classifier that knows attacks, and an autoencoder that knows the usual.

A classifier alone misses what it was never shown. So a second score says how unusual a
connection is: how badly an autoencoder gives it back that has seen normal traffic only.
Logistic regression weighs the two, and a threshold is chosen by cost.

Both are fitted to scores of attacks that were kept from the networks that scored them:
in each round some types of attack are left out whole, with a part of the normal
traffic. That is how the detector will meet new attacks; the test files are not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sillar.core.rng import Rng
from sillar.data import Dataset, TableTransform
from sillar.detectors.nsl_kdd import NORMAL, Traffic
from sillar.detectors.rounds import Rounds
from sillar.errors import DataError
from sillar.evidence import Threshold, choose_threshold, k_folds
from sillar.nn import MSE, Dense, Layer, Parallel, ReconstructionError, ReLU, Sequential
from sillar.optim import AdamW, CosineAnnealing
from sillar.train import fit, predict

Train = Callable[[np.ndarray, np.ndarray], Layer]  # rows and 0 or 1, to two logits
CLASSES = (NORMAL, "attack")
# Counts of things that happened, and sizes: a few are very large.
COUNTS = (
    *("duration", "src_bytes", "dst_bytes", "hot", "num_compromised", "num_root"),
    *("num_file_creations", "num_access_files", "count", "srv_count"),
    *("num_failed_logins", "wrong_fragment", "urgent", "num_shells", "su_attempted"),
)


class Detector(NamedTuple):
    """What was found, and on what grounds."""

    model: Layer  # rows to two logits; it says attack from the threshold on
    threshold: Threshold
    labels: np.ndarray  # of the training file: 1 for an attack
    scores: dict[str, np.ndarray]  # of the training file, each type unseen

    def notes(self) -> dict[str, Any]:
        """Return the threshold and its reason as plain data, for the model's file."""
        kept = self.threshold._replace(value=0.5)._asdict()
        reason = f"{kept['reason']}, on types of attack left out of training"
        return {"threshold": kept | {"reason": reason}}


def new_transform() -> TableTransform:
    """Return the transform of connections, not fitted."""
    return TableTransform(
        categories=["protocol_type", "service", "flag"],
        log=COUNTS,
        drop=["num_outbound_cmds"],  # always 0
    )


def complete(
    classifier: Layer,
    traffic: Traffic,
    train: Train,
    *,
    folds: int = 5,
    epochs: int = 100,
    cost: tuple[float, float] = (10.0, 1.0),
    seed: int = 0,
    on_round: Callable[[str], None] = lambda text: None,
    kept: Rounds | None = None,
) -> Detector:
    """Return the detector around a classifier that was trained on `traffic`.

    `train` trains another such classifier; `epochs` are the autoencoder's. `cost` is
    that of a miss and that of a false alarm. `on_round` is told of each round;
    `kept` has those that were done before.
    """
    labels = traffic.attacks
    masks = rounds(traffic.kinds, folds, seed)
    evidence = out_of_type(traffic, train, masks, epochs, seed, on_round, kept)
    weights = logistic(evidence, labels)
    combined = evidence @ weights[:-1] + weights[-1]
    threshold = choose_threshold(labels, combined, cost=cost)
    x = new_transform().fit(traffic.columns)(traffic.columns)
    novelty = autoencoder(x[labels == 0], epochs=epochs, seed=seed)
    model = Sequential(beside(classifier, novelty), Dense(3, 2)).init(Rng(0), keep=True)
    last = model[1]
    last.weight.data[:] = np.stack([0 * weights[:-1], weights[:-1]], axis=1)
    last.bias.data[:] = [0, weights[-1] - threshold.value]
    scores = {
        "classifier": evidence[:, 1] - evidence[:, 0],
        "novelty": evidence[:, 2],
        "both": combined,
    }
    return Detector(model, threshold, labels, scores)


def beside(classifier: Layer, novelty: Layer) -> Layer:
    """Return rows -> two logits of the classifier and the autoencoder's error."""
    return Parallel(classifier, ReconstructionError(novelty))


def autoencoder(x: np.ndarray, *, epochs: int, seed: int) -> Layer:
    """Return a network that learned to give normal rows back through 32 numbers."""
    n = x.shape[1]
    model = Sequential(
        *(Dense(n, 128), ReLU(), Dense(128, 32), ReLU()),
        *(Dense(32, 128), ReLU(), Dense(128, n)),
    )
    steps = epochs * -(-len(x) // 128)
    fit(
        model,
        MSE(),
        AdamW(CosineAnnealing(0.003, steps=steps), weight_decay=1e-4),
        Dataset(x, x),
        epochs=epochs,
        batch_size=128,
        seed=seed,
        callbacks=(),
    )
    return model


def out_of_type(
    traffic: Traffic,
    train: Train,
    masks: list[np.ndarray],
    epochs: int,
    seed: int,
    on_round: Callable[[str], None],
    kept: Rounds | None = None,
) -> np.ndarray:
    """Return the networks' three outputs for each row, trained without its type.

    Transform and networks of a round see no row of its mask.
    """

    def outputs(held: np.ndarray) -> np.ndarray:
        known = traffic.take(np.flatnonzero(~held))
        new = traffic.take(np.flatnonzero(held))
        transform = new_transform().fit(known.columns)
        x = transform(known.columns)
        classifier = train(x, known.attacks)
        novelty = autoencoder(x[known.attacks == 0], epochs=epochs, seed=seed)
        return predict(beside(classifier, novelty), transform(new.columns))

    found = np.empty((len(traffic.kinds), 3))
    for i, held in enumerate(masks, 1):
        name = f"round {i}/{len(masks)}"
        before = None if kept is None else kept.read(i, held)
        if before is not None:
            on_round(f"{name}: done before")
            found[held] = before
            continue
        on_round(f"{name}: without {_types(traffic.kinds[held])}")
        found[held] = outputs(held)
        if kept is not None:
            kept.write(i, held, found[held])
    return found


def _types(kinds: np.ndarray) -> str:
    return ", ".join(sorted({*kinds.tolist()} - {NORMAL}))


def rounds(kinds: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Return masks of rows to leave out: whole types of attack, and normal rows.

    Each row is left out once.
    """
    attacks, normal = np.flatnonzero(kinds != NORMAL), np.flatnonzero(kinds == NORMAL)
    types = len(np.unique(kinds[attacks]))
    folds = min(folds, types)
    if folds < 2 or len(normal) < folds:
        raise DataError(
            "intrusion: expected at least two types of attack, to leave one out, and as"
            f" many normal rows, got {types} types and {len(normal)} rows"
        )
    masks = np.zeros((folds, len(kinds)), bool)
    by_type = k_folds(len(attacks), folds, groups=kinds[attacks], seed=seed)
    by_row = k_folds(len(normal), folds, seed=seed)
    for mask, (_, a), (_, b) in zip(masks, by_type, by_row, strict=True):
        mask[attacks[a]] = mask[normal[b]] = True
    return list(masks)


def logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return weights and bias (k + 1,) of logistic regression of y on x (n, k).

    Newton's method (Hastie, Tibshirani, Friedman 2009, equation 4.26), with a penalty
    of 1e-3 / 2 times the squared weights, which keeps classes that can be told apart
    finite.
    """
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = 1e-3 * np.diag([*[1.0] * x.shape[1], 0.0])
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(rows @ weights, -500, 500)))
        slope = rows.T @ (p - y) + penalty @ weights
        curve = (rows.T * np.maximum(p * (1 - p), 1e-9)) @ rows + penalty
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return weights
