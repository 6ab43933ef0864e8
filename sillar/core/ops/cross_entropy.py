"""Softmax and cross-entropy in one, with integer labels."""

from __future__ import annotations

from typing import Any

from sillar.backends import Array
from sillar.core.dtypes import SCALARS
from sillar.core.ops.elementwise import exp
from sillar.core.ops.reduce import logsumexp, sum_
from sillar.core.ops.shape import reshape
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor


@primitive
def cross_entropy(xp: Any, x: Array, labels: Array) -> Array:
    """Return log(sum(exp(x))) - x[label] of logits (..., c) and labels (...)."""
    return xp.cross_entropy(x, labels)


@primitive
def cross_entropy_input(xp: Any, g: Array, x: Array, labels: Array) -> Array:
    """Return g (softmax(x) - one_hot(labels)): the gradient of `cross_entropy`."""
    return xp.cross_entropy_input(g, x, labels)


cross_entropy.defvjp(lambda g, y, x, labels: cross_entropy_input(g, x, labels))


def _curvature(u: Tensor, y: Tensor, g: Any, x: Tensor, labels: Tensor) -> Tensor:
    p = exp(x - logsumexp(x, axis=-1, keepdims=True))
    pulled = p * (u - sum_(p * u, axis=-1, keepdims=True))
    return pulled * (g if isinstance(g, SCALARS) else reshape(g, shape=(*g.shape, 1)))


cross_entropy_input.defvjp(
    lambda u, y, g, x, labels: sum_(u * cross_entropy_input(1.0, x, labels), axis=-1),
    _curvature,
)
