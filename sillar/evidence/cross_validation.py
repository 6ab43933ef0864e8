"""k-fold cross-validation in processes, and whether one model beats another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sillar.data import Dataset
from sillar.errors import ConfigError

Trial = Callable[[Dataset, Dataset, int], Mapping[str, float]]


@dataclass(frozen=True)
class CrossValidation:
    """The metrics of every fold, and how many rows each trained and tested on."""

    scores: dict[str, list[float]]
    sizes: list[tuple[int, int]]

    def mean(self, metric: str) -> float:
        """Return the mean over the folds."""
        return float(np.mean(self._of(metric)))

    def deviation(self, metric: str) -> float:
        """Return the standard deviation between folds (n - 1)."""
        return float(np.std(self._of(metric), ddof=1))

    def against(self, other: CrossValidation, metric: str) -> tuple[float, float]:
        """Return the mean difference from another model on the same folds, and p.

        The corrected resampled t-test (Nadeau & Bengio 2003): folds share most of
        what they trained on, so the variance of their differences counts
        1 / k + n_test / n_train times.
        """
        if self.sizes != other.sizes:
            raise ConfigError(
                f"against: expected folds of the same sizes, got {self.sizes} and"
                f" {other.sizes}: give both models the same folds"
            )
        gaps = np.subtract(self._of(metric), other._of(metric))
        k, gap = len(gaps), float(np.mean(gaps))
        if k < 2:
            raise ConfigError("against: a test needs two folds or more, got one")
        ratio = np.mean([test / train for train, test in self.sizes])
        spread = math.sqrt((1 / k + ratio) * np.var(gaps, ddof=1))
        if spread == 0:
            return gap, 1.0 if gap == 0 else 0.0
        return gap, student_tail(abs(gap) / spread, k - 1)

    def _of(self, metric: str) -> list[float]:
        if metric not in self.scores:
            raise ConfigError(
                f"cross-validation: no metric {metric!r:.40}, there are"
                f" {', '.join(self.scores)}"
            )
        return self.scores[metric]


def cross_validate(
    trial: Trial,
    dataset: Dataset,
    folds: Iterable[tuple[Any, Any]],
    *,
    workers: int = 0,
) -> CrossValidation:
    """Return the metrics of trial(train, test, fold) for every fold.

    `folds` yields (rows to train on, rows to test on), as `k_folds` does. A trial gets
    the two parts and nothing else, so what it fits (scaling, a model, a threshold) has
    seen the training rows only. With `workers` the folds run in as many new processes:
    the trial is then a function of a module, and the program's own start stands under
    `if __name__ == "__main__":`.
    """
    if type(workers) is not int or workers < 0:
        raise ConfigError(
            f"cross_validate: workers must be an integer >= 0, got {workers!r}"
        )
    cuts = listed(folds)
    jobs = [(trial, dataset, *cut, fold) for fold, cut in enumerate(cuts)]
    found = _in_processes(jobs, workers) if workers else [run_fold(job) for job in jobs]
    return joined(found, cuts)


def listed(folds: Iterable[tuple[Any, Any]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds as arrays of row numbers, at least one."""
    cuts = [(np.asarray(train), np.asarray(test)) for train, test in folds]
    if not cuts:
        raise ConfigError("cross_validate: expected folds, got none: use k_folds")
    return cuts


def joined(found: list[Any], cuts: list[tuple[Any, Any]]) -> CrossValidation:
    """Return what the folds found, which are the same metrics for all."""
    scores: dict[str, list[float]] = {name: [] for name in found[0]}
    for fold, metrics in enumerate(found):
        if metrics.keys() != scores.keys():
            raise ConfigError(
                f"cross_validate: expected the metrics {', '.join(scores)} of every"
                f" fold, got {', '.join(metrics)} of fold {fold}"
            )
        for name, value in metrics.items():
            scores[name].append(float(value))
    return CrossValidation(scores, [(len(train), len(test)) for train, test in cuts])


def run_fold(job: tuple[Any, ...]) -> dict[str, float]:
    """Return the metrics of one fold: (trial, dataset, train, test, number)."""
    trial, dataset, train, test, fold = job
    return dict(trial(dataset.take(train), dataset.take(test), fold))


def _in_processes(jobs: list[Any], workers: int) -> list[dict[str, float]]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=spawn) as pool:
        return list(pool.map(run_fold, jobs))


def student_tail(t: float, freedom: int) -> float:
    """Return P(|T| > t) of Student's distribution with whole degrees of freedom.

    Abramowitz & Stegun (1964), equations 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    square, odd = math.cos(angle) ** 2, freedom % 2
    term = total = math.cos(angle) if odd else 1.0
    for i in range(1 + odd, freedom - 2, 2):
        term *= square * i / (i + 1)
        total += term
    if not odd:
        return 1 - math.sin(angle) * total
    return 1 - 2 / math.pi * (angle + math.sin(angle) * total * (freedom > 1))
