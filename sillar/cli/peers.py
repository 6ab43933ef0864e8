"""Other models in a report: random forest and logistic regression on the same files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sillar.cli import show
from sillar.cli.detecting import DETECTORS
from sillar.cli.kinds import share, summary
from sillar.cli.origin import Finer, Kinds, Source
from sillar.cli.plan import make, trained
from sillar.data import Dataset
from sillar.errors import DependencyError
from sillar.evidence import choose_threshold, k_folds
from sillar.evidence.baselines import logistic_regression
from sillar.evidence.findings import Tested
from sillar.evidence.page import Page
from sillar.interop.forest import random_forest
from sillar.train import metrics, predict

PEERS = {"random forest": random_forest, "logistic regression": logistic_regression}
FOLDS = 5
Cost = tuple[float, float]


class Answer(NamedTuple):
    """What a model makes of the files, one array for each."""

    scores: list[Any]  # of an alarm
    value: float | None  # alarms begin here, by cost; else at 0.5
    sorts: list[Any]  # the finer class of each row


def add_peers(
    page: Page,
    origin: Source,
    recipe: dict[str, Any],
    files: Sequence[tuple[Kinds, Tested]],
) -> None:
    """Add what others make of the files, and how all tell the finer classes apart."""
    finer = origin.finer()
    if finer is None:
        return
    seed, table = recipe["training"]["seed"], recipe["detector"]
    kind = table and make("detector", table, DETECTORS)
    cost = (kind.miss, kind.false_alarm) if kind else None
    show.say("fitting other models to stand beside this one, which takes a minute")
    parts = [file.part for file, _ in files]
    own = [told.probabilities[:, 1] for _, told in files]
    sorter = trained(recipe, origin, finer.train).to("numpy")
    sorts = [_sorted(sorter, x.x, score) for x, score in zip(parts, own, strict=True)]
    answers, lacking = {"this model": Answer(own, None, sorts)}, []
    for name, peer in PEERS.items():
        try:
            answers[name] = _answer(peer, finer.train, parts, cost, seed)
        except DependencyError as error:
            lacking.append(f"Not shown: {error}.")
    section = page.section("Other models")
    for text in lacking:
        section.text(text, warn=True)
    for i, (file, _) in enumerate(files):
        section.table(_rows(file, answers, i), f"Tested on {file.part.name}")
    section.text(_grounds(cost))
    _add_classes(page, finer, files, answers)


def _add_classes(
    page: Page,
    finer: Finer,
    files: Sequence[tuple[Kinds, Tested]],
    answers: dict[str, Answer],
) -> None:
    names = finer.train.classes or ()
    section = page.section(f"{len(names)} classes")
    section.text(
        f"Where this model gives an alarm, a network of the same layers that was"
        f" trained on the {len(names)} classes says which; where not, {names[0]}. The"
        " others were fitted to the classes."
    )
    for i, (file, _) in enumerate(files):
        truth = finer.truths[i]
        rows = [
            {"model": name, **_by_class(truth, answer.sorts[i], names)}
            for name, answer in answers.items()
        ]
        section.table(rows, f"Recall of each class in {file.part.name}")


def _sorted(sorter: Any, x: Any, scores: Any) -> Any:
    """Return the likeliest class but the first where there is an alarm, else 0."""
    return np.where(scores >= 0.5, 1 + predict(sorter, x)[:, 1:].argmax(axis=1), 0)


def _answer(
    peer: Any, train: Dataset, parts: Sequence[Dataset], cost: Cost | None, seed: int
) -> Answer:
    x, y = np.asarray(train.x), (np.asarray(train.y) > 0).astype(np.int64)
    other = np.concatenate([part.x for part in parts])
    ends = np.cumsum([len(part) for part in parts])[:-1]
    scores = peer(x, y, other, 2, seed)[:, 1]
    sorts = peer(x, train.y, other, len(train.classes or ()), seed).argmax(axis=1)
    value = None
    if cost is not None:
        held = np.empty(len(y))
        for known, new in k_folds(len(y), FOLDS, stratify=y, seed=seed):
            held[new] = peer(x[known], y[known], x[new], 2, seed)[:, 1]
        value = choose_threshold(y, held, cost=cost).value
    return Answer(np.split(scores, ends), value, np.split(sorts, ends))


def _rows(file: Kinds, answers: dict[str, Answer], i: int) -> list[dict[str, Any]]:
    rows = []
    for name, answer in answers.items():
        scores, at = answer.scores[i], "" if name == "this model" else ", at 0.5"
        rows.append({"model": f"{name}{at}", **summary(file, scores, scores >= 0.5)})
        if answer.value is not None:
            found = summary(file, scores, scores >= answer.value)
            rows.append({"model": f"{name}, by cost", **found})
    return [{k: v for k, v in row.items() if k not in ("file", "rows")} for row in rows]


def _grounds(cost: Cost | None) -> str:
    text = "All were fitted to the same columns of the same rows to train on."
    if cost is None:
        return text
    return (
        f"{text} By cost: a threshold chosen with a miss at {cost[0]:g} and a false"
        f" alarm at {cost[1]:g}, on {FOLDS} folds of the rows to train on."
    )


def _by_class(truth: Any, found: Any, names: Sequence[str]) -> dict[str, Any]:
    recall = {name: share(found[truth == c] == c) for c, name in enumerate(names)}
    right = float((found == truth).mean())
    return {"accuracy": right, "F1 (macro)": float(metrics.f1(truth, found)), **recall}
