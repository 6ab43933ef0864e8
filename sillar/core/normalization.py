"""Normalisation: in primitives, and by channels with kernels for its gradient."""

from __future__ import annotations

import math
from typing import Any

from sillar.backends import Array
from sillar.core.functional import mean
from sillar.core.fused import as_composed
from sillar.core.ops import sqrt, sum_
from sillar.core.ops.reduce import Axis
from sillar.core.share import whole
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor


def normalized(x: Tensor, axis: Axis, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) over `axis`, in primitives."""
    centred = x - mean(x, axis, keepdims=True)
    return centred / sqrt(mean(centred * centred, axis, keepdims=True) + eps)


def _by_channels(x: Tensor, weight: Tensor, *, eps: float) -> Any:
    centred = x - _channel_mean(x)
    return centred / sqrt(_channel_mean(centred * centred) + eps) * weight


def _channel_mean(x: Tensor) -> Any:
    """Return the mean over all axes but the last, of the whole batch."""
    count, total = whole(math.prod(x.shape[:-1]), _channel_sum(x))
    return total * (1.0 / count)


def _channel_sum(x: Tensor) -> Tensor:
    return sum_(x, axis=tuple(range(x.ndim - 1)))


@primitive
def channel_squares(xp: Any, x: Array, centre: Array) -> Array:
    """Return the sum of (x - centre)^2 over all axes but the last."""
    return xp.channel_squares(x, centre)


channel_squares.defvjp(
    lambda g, y, x, centre: (x - centre) * g * 2.0,
    lambda g, y, x, centre: (centre - x) * g * 2.0,
)


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Return mean and variance over all axes but the last, and of how many values."""
    count, total = whole(math.prod(x.shape[:-1]), _channel_sum(x))
    centre = total * (1.0 / count)
    _, squares = whole(0, channel_squares(x, centre))
    return centre, squares * (1.0 / count), count


@primitive
def batch_norm(
    xp: Any, x: Array, weight: Array, bias: Array, *statistics: Array, eps: float
) -> Array:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias, by channels.

    The statistics are those of x, `channel_statistics`; they have no gradient of their
    own, since that of x includes it.
    """
    return xp.batch_norm(x, weight, bias, *statistics, eps)


@primitive
def batch_norm_input(
    xp: Any, g: Array, x: Array, weight: Array, *saved: Array, eps: float
) -> Array:
    """Return the gradient of `batch_norm` for x.

    What is saved: the statistics, and the gradients for weight and bias divided by the
    number of values of each channel.
    """
    return xp.batch_norm_input(g, x, weight, *saved, eps)


@primitive
def batch_norm_weight(
    xp: Any, g: Array, x: Array, weight: Array, *statistics: Array, eps: float
) -> Array:
    """Return the gradient of `batch_norm` for its weight."""
    return xp.batch_norm_weight(g, x, *statistics, eps)


def _gradients(
    places: list[int],
    g: Tensor,
    y: Tensor,
    x: Tensor,
    w: Any,
    b: Any,
    *statistics: Tensor,
    eps: float,
) -> list[Tensor | None]:
    """Return the gradients of `batch_norm`; that of x needs the others."""
    total = _channel_sum(g)
    if not {0, 1} & set(places):
        return [total if i == 2 else None for i in places]
    slope = batch_norm_weight(g, x, w, *statistics, eps=eps)
    found: dict[int, Tensor] = {1: slope, 2: total}
    if 0 in places:
        count, *sums = whole(math.prod(g.shape[:-1]), slope.detach(), total.detach())
        means = (t * (1.0 / count) for t in sums)
        found[0] = batch_norm_input(g, x, w, *statistics, *means, eps=eps)
    return [found.get(i) for i in places]


batch_norm.defvjp_all(_gradients)
as_composed(batch_norm_input, _by_channels, 0)
as_composed(batch_norm_weight, _by_channels, 1)
