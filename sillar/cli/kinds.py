"""Kinds in a report: what is found of each kind of alarm, and of those that are new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sillar.cli.origin import Kinds
from sillar.evidence.findings import Tested
from sillar.evidence.page import Section
from sillar.train import metrics


def add_kinds(section: Section, files: Sequence[tuple[Kinds, Tested]]) -> None:
    """Add how well the alarms of each file are told, and each kind's recall in one.

    An alarm is a probability of 0.5 and above.
    """
    scored = [(file, told.probabilities[:, 1]) for file, told in files]
    section.table(
        [summary(file, score, score >= 0.5) for file, score in scored],
        "New kinds are those that the part to train on does not have",
    )
    file, scores = scored[0]
    section.table(_by_kind(file, scores >= 0.5), f"By kind in {file.part.name}")


def summary(file: Kinds, scores: np.ndarray, alarms: np.ndarray) -> dict[str, Any]:
    """Return how well the alarms in a file are told, and those of new kinds."""
    truth = file.part.y == 1
    new = truth & ~np.isin(file.kinds, list(file.known))
    return {
        "file": file.part.name,
        "rows": len(truth),
        "accuracy": float((alarms == truth).mean()),
        "area under ROC": metrics.roc_auc(file.part.y, scores),
        "recall": share(alarms[truth]),
        "false-alarm rate": share(alarms[~truth]),
        "recall of new kinds": share(alarms[new]),
    }


def _by_kind(file: Kinds, alarms: np.ndarray) -> list[dict[str, Any]]:
    wanted = file.kinds[file.part.y == 1]
    kinds, counts = np.unique(wanted, return_counts=True)
    return [
        {
            "kind": str(kinds[i]),
            "new": "" if str(kinds[i]) in file.known else "new",
            "rows": int(counts[i]),
            "recall": share(alarms[file.kinds == kinds[i]]),
        }
        for i in np.argsort(-counts, kind="stable")
    ]


def share(alarms: np.ndarray) -> float | str:
    """Return how many are true of all; nothing of none."""
    return float(alarms.mean()) if len(alarms) else ""
