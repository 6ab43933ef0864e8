"""What stands beside a model's metrics: baselines, and what to look at first."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.cli.origin import Parts
from sillar.evidence.baselines import are_for, baselines, few, headline
from sillar.train.evaluate import class_count


def beside(parts: Parts) -> dict[str, Any]:
    """Return baselines, fitted on the part to train on, and the metric to name first.

    Nothing for inputs that are no rows of numbers with one answer each, as texts.
    """
    train, test = parts.train, few(parts.test)
    if not (are_for(train) and are_for(test)):
        return {}
    rows = [
        {"model": baseline.name, **baseline.metrics(test.y)}
        for baseline in baselines(train, test)
    ]
    found: dict[str, Any] = {"baselines": rows}
    classes = class_count(parts.test)
    if classes:
        counts = np.bincount(parts.test.y.reshape(-1).astype(int), minlength=classes)
        rarest = float(counts.min() / counts.sum())
        first = headline(rarest)
        if all(first in row for row in rows):
            found |= {"headline": first, "rarest": rarest}
    return found
