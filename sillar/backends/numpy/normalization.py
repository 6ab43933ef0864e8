"""Normalisation by channels, in blocks that stay in cache.

NumPy's loops run along the last axis. Where that is a few channels, many rows are laid
side by side in one long line, and what belongs to the channels is repeated beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import reductions, threads

BLOCK = 65536  # elements at a time
LINE = 512  # elements that fill a loop of NumPy's


def channel_squares(x: Array, centre: Array) -> Array:
    """Return the sum of (x - centre)^2 over all axes but the last."""
    return _summed(_square, [x], [centre])


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    centre: Array,
    spread: Array,
    eps: float,
    out: Array | None = None,
) -> Array:
    """Return (x - centre) / sqrt(spread + eps) * weight + bias, by channels."""
    scale = weight / np.sqrt(spread + eps)
    out = np.empty(x.shape, np.result_type(x, scale, bias)) if out is None else out
    _by_lines(_affine, [x, out], [centre, scale, bias])
    return out


def batch_norm_input(
    g: Array,
    x: Array,
    weight: Array,
    centre: Array,
    spread: Array,
    slope: Array,
    total: Array,
    eps: float,
    out: Array | None = None,
) -> Array:
    """Return the gradient of `batch_norm` for x.

    It is weight * r * (g - total - y slope), where y = (x - centre) r and
    r = 1 / sqrt(spread + eps); slope and total are the means of g y and of g.
    """
    out = np.empty(x.shape, np.result_type(g, x, weight)) if out is None else out
    r = 1 / np.sqrt(spread + eps)
    scale = weight * r
    vectors = [centre, scale, -scale * r * slope, -scale * total]
    _by_lines(_pulled, [g, x, out], vectors)
    return out


def batch_norm_weight(
    g: Array, x: Array, centre: Array, spread: Array, eps: float
) -> Array:
    """Return the sum of g (x - centre) / sqrt(spread + eps) of each channel."""
    return _summed(_product, [g, x], [centre]) / np.sqrt(spread + eps)


def _affine(x: Array, out: Array, centre: Array, scale: Array, bias: Array) -> None:
    np.subtract(x, centre, out=out)
    out *= scale
    out += bias


def _pulled(g: Array, x: Array, out: Array, centre: Array, *factors: Array) -> None:
    scale, along, shift = factors
    y = x - centre
    y *= along
    np.multiply(g, scale, out=out)
    out += y
    out += shift


def _square(x: Array, centre: Array) -> Array:
    y = x - centre
    y *= y
    return y


def _product(g: Array, x: Array, centre: Array) -> Array:
    y = x - centre
    y *= g
    return y


def _summed(
    terms: Callable[..., Array], arrays: Sequence[Array], vectors: Sequence[Array]
) -> Array:
    """Return the sum over all axes but the last of what `terms` makes of each line."""
    total = np.zeros(arrays[0].shape[-1:], np.result_type(*arrays))

    def add(*line: Array) -> None:
        found = reductions.sum(terms(*line), axis=0)
        np.add(total, found.reshape(-1, len(total)).sum(axis=0), out=total)

    _by_lines(add, arrays, vectors)
    return total


def _by_lines(
    kernel: Callable[..., None], arrays: Sequence[Array], vectors: Sequence[Array]
) -> None:
    """Call kernel(*arrays, *vectors) block by block, many rows in one long line.

    The arrays are (..., c), the vectors (c,) or numbers.
    """
    c = arrays[0].shape[-1]
    if arrays[0].size == 0:
        return
    rows = [a.reshape(-1, c) for a in arrays]
    n = len(rows[0])
    many = max(1, LINE // c)
    even = n - n % many
    for start, stop, side_by_side in ((0, even, many), (even, n, 1)):
        if start == stop:
            continue
        width = side_by_side * c
        lines = [a[start:stop].reshape(-1, width) for a in rows]
        repeated = [np.resize(v, width) for v in vectors]
        step = max(1, threads.block(BLOCK) // width)
        for i in range(0, len(lines[0]), step):
            kernel(*(a[i : i + step] for a in lines), *repeated)
