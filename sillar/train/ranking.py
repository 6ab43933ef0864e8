"""Ranking examples by score: what ROC and precision-recall curves are made of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranked(NamedTuple):
    """Positives and negatives with a score of at least each distinct threshold."""

    true: NDArray[np.int64]
    false: NDArray[np.int64]
    thresholds: NDArray[np.float64]


def rank(positive: NDArray[Any], scores: NDArray[np.float64]) -> Ranked:
    """Count from the highest score down; equal scores make one step."""
    order = np.argsort(-scores)
    scores = scores[order]
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), scores.size - 1)
    true = np.cumsum(positive[order], dtype=np.int64)[last]
    return Ranked(true, last + 1 - true, scores[last])


def roc_area(ranked: Ranked) -> float:
    """Return the chance that a positive outranks a negative, ties counting half."""
    true, false = ranked.true, ranked.false
    if not (true[-1] and false[-1]):
        return math.nan
    heights = true + np.append(0, true[:-1])  # twice the mean height of each step
    area = np.sum(np.diff(false, prepend=0) * heights)
    return float(area / (2.0 * true[-1] * false[-1]))


def pr_area(ranked: Ranked) -> float:
    """Return the mean, over the positives, of the precision at each one's score."""
    if not ranked.true[-1]:
        return math.nan
    hit_share = ranked.true / (ranked.true + ranked.false)
    gained = np.diff(ranked.true, prepend=0)
    return float(np.sum(gained * hit_share) / ranked.true[-1])
