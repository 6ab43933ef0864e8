"""Compositions of primitives, without rules of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sillar.backends import backend_of
from sillar.core.ops import (
    astype,
    concat,
    equal,
    exp,
    expm1,
    greater,
    less,
    logsumexp,
    normal_cdf,
    reshape,
    sigmoid,
    sum_,
    tanh,
    where,
)
from sillar.core.ops.reduce import Axis, kept_shape
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.errors import ShapeError


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean over `axis` (None: all); of nothing it is an error."""
    kept = kept_shape(x.shape, axis)
    count = math.prod(n for n, k in zip(x.shape, kept, strict=True) if k == 1)
    if count == 0:
        raise ShapeError(f"mean: no elements along axis {axis} of shape {x.shape}")
    return sum_(x, axis=axis, keepdims=keepdims) * (1.0 / count)


def variance(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean squared distance from the mean over `axis`."""
    centred = x - mean(x, axis, keepdims=True)
    return mean(centred * centred, axis, keepdims)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return x - log(sum(exp(x))), the logarithm of `softmax`."""
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `axis`."""
    return exp(log_softmax(x, axis))


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Return x where x > 0, else slope * x; the derivative at 0 is `slope`."""
    return where(greater(x, 0), x, x * slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016).

    As from below, the derivative at 0 is `alpha`.
    """
    below = where(greater(x, 0), 0.0, x)  # exp must not overflow where it is not used
    return where(greater(x, 0), x, expm1(below) * alpha)


def gelu(x: Tensor, *, approximate: bool = False) -> Tensor:
    """Return x * P(N(0, 1) <= x) (Hendrycks & Gimpel 2016), or its tanh form."""
    if approximate:
        inner = (x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)
        return x * 0.5 * (tanh(inner) + 1.0)
    return x * normal_cdf(x)


def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x), also called swish."""
    return x * sigmoid(x)


def clip(x: Tensor, low: float, high: float) -> Tensor:
    """Return x limited to [low, high]; the derivative is 1 inside and at the limits."""
    y = where(less(x, low), low, x)
    return where(greater(y, high), high, y)


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return equal shapes joined along a new axis."""
    if not xs:
        raise ShapeError("stack: expected at least one tensor, got none")
    shape = lift(xs[0]).shape
    position = axis % (len(shape) + 1)
    widened = (*shape[:position], 1, *shape[position:])
    for x in xs:
        if lift(x).shape != shape:
            raise ShapeError(f"stack: expected equal shapes, got {shape}, {x.shape}")
    return concat(*(reshape(x, shape=widened) for x in xs), axis=position)


def one_hot(labels: Any, n: int, dtype: Any = "float32") -> Tensor:
    """Return 1 at each label's position in a new last axis of length n, 0 elsewhere."""
    labels = lift(labels)
    positions = backend_of(labels.data).arange(n)
    column = reshape(labels, shape=(*labels.shape, 1))
    return astype(equal(column, positions), dtype=dtype)
