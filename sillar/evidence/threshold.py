"""Where to cut a score: by what was promised, on validation data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sillar.errors import ConfigError, DataError
from sillar.train.metrics import roc_curve


class Threshold(NamedTuple):
    """Scores >= `value` are alarms; what that gave where it was chosen, and why."""

    value: float
    reason: str
    recall: float
    precision: float
    false_alarm_rate: float
    cost: float | None

    def __call__(self, scores: ArrayLike) -> Any:
        """Return the labels of scores (n,): 1 for an alarm."""
        return (np.asarray(scores) >= self.value).astype(np.int64)


def choose_threshold(
    target: ArrayLike,
    scores: ArrayLike,
    *,
    recall: float | None = None,
    precision: float | None = None,
    cost: tuple[float, float] | None = None,
) -> Threshold:
    """Return the threshold that keeps one promise, chosen on these examples.

    `recall`: the fewest false alarms that catch this share of class 1.
    `precision`: the most of class 1 that is caught while this share of alarms is right.
    `cost`: (of a miss, of a false alarm); the least cost in all.
    Give validation data: what is chosen on test data promises nothing. Of equal choices
    the highest threshold is taken.
    """
    given = {"recall": recall, "precision": precision, "cost": cost}
    asked = [name for name, value in given.items() if value is not None]
    if len(asked) != 1:
        raise ConfigError(
            "choose_threshold: expected one of recall=, precision= and cost=, got"
            f" {', '.join(asked) or 'none'}"
        )
    table = _Table(target, scores)
    if cost is not None:
        return table.cheapest(*_costs(cost))
    promised = recall if recall is not None else precision
    if not (isinstance(promised, float | int) and 0 < promised <= 1):
        raise ConfigError(
            f"choose_threshold: {asked[0]} must be in (0, 1], got {promised!r}"
        )
    keep = table.with_recall if recall is not None else table.with_precision
    return keep(float(promised))


class _Table:
    """Every threshold that makes a difference, and how many it catches."""

    def __init__(self, target: ArrayLike, scores: ArrayLike) -> None:
        false, true, self.values = roc_curve(target, scores)
        labels = np.asarray(target).reshape(-1)
        self.positives = int((labels == 1).sum())
        self.negatives = labels.size - self.positives
        if not (self.positives and self.negatives):
            raise DataError(
                "choose_threshold: expected examples of both classes, got"
                f" {self.positives} of class 1 and {self.negatives} of class 0"
            )
        self.hits = np.rint(true * self.positives)
        self.alarms = np.rint(false * self.negatives)

    def with_recall(self, promised: float) -> Threshold:
        least = promised * self.positives - 1e-9
        at = int(np.argmax(self.hits >= least))
        return self.chosen(at, f"the fewest false alarms with recall >= {promised:g}")

    def with_precision(self, promised: float) -> Threshold:
        raised = self.hits + self.alarms
        kept = (self.hits >= promised * raised - 1e-9) & (raised > 0)
        if not kept.any():
            best = float(np.max(self.hits[1:] / raised[1:]))
            raise DataError(
                f"choose_threshold: no threshold has precision {promised:g} here; the"
                f" best is {best:.4f}: ask for less, or train a better model"
            )
        at = int(np.argmax(np.where(kept, self.hits, -1)))
        return self.chosen(at, f"the most recall with precision >= {promised:g}")

    def cheapest(self, miss: float, alarm: float) -> Threshold:
        costs = miss * (self.positives - self.hits) + alarm * self.alarms
        reason = f"the least cost, a miss at {miss:g} and a false alarm at {alarm:g}"
        at = int(np.argmin(costs))
        return self.chosen(at, reason)._replace(cost=float(costs[at]))

    def chosen(self, at: int, reason: str) -> Threshold:
        hits, alarms = float(self.hits[at]), float(self.alarms[at])
        return Threshold(
            float(self.values[at]),
            reason,
            hits / self.positives,
            hits / (hits + alarms) if hits + alarms else float("nan"),
            alarms / self.negatives,
            None,
        )


def _costs(cost: Any) -> tuple[float, float]:
    try:
        miss, alarm = map(float, cost)
    except (TypeError, ValueError):
        miss = alarm = -1.0
    if not (miss > 0 and alarm > 0 and np.isfinite([miss, alarm]).all()):
        raise ConfigError(
            "choose_threshold: cost must be two positive numbers, of a miss and of a"
            f" false alarm, got {cost!r:.60}: write cost=(10, 1)"
        )
    return miss, alarm
