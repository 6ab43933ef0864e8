"""Whether a probability means what it says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.errors import ConfigError, DataError
from sillar.train.metric_inputs import labels_for, score_matrix


class Calibration(NamedTuple):
    """By bin of predicted probability: mean prediction, share of class 1, examples."""

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Return the expected calibration error (Naeini et al. 2015): the mean gap."""
        gaps = np.abs(self.predicted - self.observed)
        return float(np.average(gaps, weights=self.counts))

    def interval(self, z: float = 1.96) -> tuple[Any, Any]:
        """Return bounds of the observed shares, 95 % for z = 1.96 (Wilson 1927)."""
        p, n = self.observed, self.counts
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def calibration_curve(
    target: ArrayLike,
    probabilities: ArrayLike,
    *,
    bins: int = 10,
    strategy: str = "uniform",
) -> Calibration:
    """Return mean prediction and share of class 1 in bins; empty bins are left out.

    Targets are 0 or 1, probabilities (n,) of class 1. Bins are equally wide
    ("uniform") or equally full ("quantile").
    """
    if type(bins) is not int or bins < 1:
        raise ConfigError(
            f"calibration_curve: bins must be an integer >= 1, got {bins!r}"
        )
    true, p = _read("calibration_curve", target, probabilities)
    if strategy == "uniform":
        edges = np.linspace(0, 1, bins + 1)
    elif strategy == "quantile":
        edges = np.quantile(p, np.linspace(0, 1, bins + 1))
    else:
        raise ConfigError(
            "calibration_curve: strategy must be 'uniform' or 'quantile', got"
            f" {strategy!r}"
        )
    places = np.searchsorted(edges[1:-1], p)
    counts = np.bincount(places, minlength=bins)
    kept = counts > 0
    predicted = np.bincount(places, p, bins)[kept] / counts[kept]
    observed = np.bincount(places, true, bins)[kept] / counts[kept]
    return Calibration(predicted, observed, counts[kept])


def brier_score(target: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared error of probabilities (n,) of class 1 (Brier 1950)."""
    true, p = _read("brier_score", target, probabilities)
    return float(np.mean((p - true) ** 2))


def _read(operation: str, target: ArrayLike, probabilities: ArrayLike) -> Any:
    columns = score_matrix(operation, probabilities)
    if columns.shape[1] != 1 or columns.min() < 0 or columns.max() > 1:
        raise DataError(
            f"{operation}: expected probabilities (n,) of class 1, in [0, 1], got"
            f" {columns.shape} from {columns.min():.4g} to {columns.max():.4g}: pass"
            " logits through a sigmoid first"
        )
    return labels_for(operation, target, columns, 2).astype(float), columns[:, 0]
