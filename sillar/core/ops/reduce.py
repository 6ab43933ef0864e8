"""Primitives that reduce axes, and running sums."""

from __future__ import annotations

from typing import Any

from sillar.backends import Array
from sillar.core.ops.elementwise import equal, exp
from sillar.core.ops.shape import astype, broadcast_to, reshape
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor

Axis = int | tuple[int, ...] | None


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """Return `shape` with the reduced axes at size 1."""
    if axis is None:
        return (1,) * len(shape)
    axes = (axis,) if isinstance(axis, int) else axis
    reduced = {a % len(shape) for a in axes}
    return tuple(1 if i in reduced else n for i, n in enumerate(shape))


def _spread(g: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """Return g repeated along the axes that were reduced."""
    if not keepdims and g.ndim != x.ndim:
        g = reshape(g, shape=kept_shape(x.shape, axis))
    return broadcast_to(g, shape=x.shape)


@primitive
def sum_(xp: Any, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the sum over `axis` (None: all), kept with size 1 if `keepdims`."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


sum_.defvjp(lambda g, y, x, *, axis=None, keepdims=False: _spread(g, x, axis, keepdims))


@primitive
def max_(xp: Any, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the largest value over `axis`; equal values share the gradient."""
    return xp.max(x, axis=axis, keepdims=keepdims)


def _max_rule(
    g: Tensor, y: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    hit = astype(equal(x, _spread(y, x, axis, keepdims)), dtype=x.dtype)
    return _spread(g, x, axis, keepdims) * (hit / sum_(hit, axis=axis, keepdims=True))


max_.defvjp(_max_rule)


@primitive
def min_(xp: Any, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the smallest value over `axis`; equal values share the gradient."""
    return xp.min(x, axis=axis, keepdims=keepdims)


min_.defvjp(_max_rule)  # the rule asks where x is y, whichever that is


@primitive
def argmax(xp: Any, x: Array, *, axis: int | None = None) -> Array:
    """Return the index of the first largest value along `axis` (None: flattened)."""
    return xp.argmax(x, axis=axis)


@primitive
def logsumexp(xp: Any, x: Array, *, axis: int = -1, keepdims: bool = False) -> Array:
    """Return log(sum(exp(x))) over `axis`, which never overflows."""
    peak = xp.max(x, axis=axis, keepdims=True)  # makes every exponent <= 0
    peak = xp.where(xp.isfinite(peak), peak, xp.zeros_like(peak))
    y = peak + xp.log(xp.sum(xp.exp(x - peak), axis=axis, keepdims=True))
    return y if keepdims else xp.squeeze(y, axis=axis)


logsumexp.defvjp(
    lambda g, y, x, *, axis=-1, keepdims=False: (
        _spread(g, x, axis, keepdims) * exp(x - _spread(y, x, axis, keepdims))
    )
)


@primitive
def cumsum(xp: Any, x: Array, *, axis: int = 0) -> Array:
    """Return running sums along `axis`."""
    return xp.cumulative_sum(x, axis=axis)


def _cumsum_rule(g: Tensor, y: Tensor, x: Tensor, *, axis: int = 0) -> Tensor:
    back = (slice(None),) * (axis % x.ndim) + (slice(None, None, -1),)
    return cumsum(g[back], axis=axis)[back]


cumsum.defvjp(_cumsum_rule)
