"""Initial values: functions (rng, shape, dtype) -> array.

The last two axes of a weight are (inputs, outputs), those before them the kernel; the
fan-in is kernel size times inputs, the fan-out kernel size times outputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.errors import ShapeError

Shape = tuple[int, ...]


def zeros(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Return zeros."""
    return np.zeros(shape, dtype)


def ones(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Return ones."""
    return np.ones(shape, dtype)


def standard_normal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw from N(0, 1)."""
    return rng.normal(shape, dtype)


def small_normal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw from N(0, 0.02^2), as language models do (Radford et al. 2019)."""
    return _normal(rng, shape, dtype, 0.02)


def xavier_uniform(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw from U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return _uniform(rng, shape, dtype, math.sqrt(6 / max(1, sum(fans(shape)))))


def xavier_normal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw with variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 12)."""
    return _normal(rng, shape, dtype, math.sqrt(2 / max(1, sum(fans(shape)))))


def he_uniform(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw from U(-a, a), a = sqrt(6 / fan_in) (He et al. 2015)."""
    return _uniform(rng, shape, dtype, math.sqrt(6 / max(1, fans(shape)[0])))


def he_normal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw with variance 2 / fan_in, which keeps ReLU nets in scale (He 2015)."""
    return _normal(rng, shape, dtype, math.sqrt(2 / max(1, fans(shape)[0])))


def lecun_uniform(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw from U(-a, a), a = sqrt(3 / fan_in) (LeCun et al. 1998)."""
    return _uniform(rng, shape, dtype, math.sqrt(3 / max(1, fans(shape)[0])))


def lecun_normal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw with variance 1 / fan_in (LeCun et al. 1998, eq. 16)."""
    return _normal(rng, shape, dtype, math.sqrt(1 / max(1, fans(shape)[0])))


def orthogonal(rng: Rng, shape: Shape, dtype: Any = "float32") -> Any:
    """Draw a matrix with orthonormal rows or columns (Saxe et al. 2014).

    The weight is seen as (kernel * inputs, outputs).
    """
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: expected two axes or more, got shape {shape}")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draws = rng.normal((max(rows, columns), min(rows, columns)), "float64")
    q, r = np.linalg.qr(draws)
    q *= np.sign(np.diagonal(r))  # makes the distribution uniform (Haar)
    matrix = q if rows >= columns else q.T
    return np.ascontiguousarray(matrix.reshape(shape).astype(dtype))


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    kernel = math.prod(shape[:-2])
    return kernel * shape[-2], kernel * shape[-1]


def _normal(rng: Rng, shape: Shape, dtype: Any, deviation: float) -> Any:
    return rng.normal(shape, dtype) * np.dtype(dtype).type(deviation)


def _uniform(rng: Rng, shape: Shape, dtype: Any, limit: float) -> Any:
    return rng.uniform(shape, dtype, -limit, limit)
