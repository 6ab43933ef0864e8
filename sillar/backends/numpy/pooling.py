"""Pooling as a few whole-array operations, one per cell of the window.

Padding and dilation are not used here: a layer pads before it pools.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy.strips import taps


def max_pool(x: Array, window: Window) -> Array:
    """Return the largest value of each window of x (n, h, w, c): (n, oh, ow, c)."""
    cells = (view for _, _, view in taps(x, window, window.positions(x.shape[1:3])))
    y = next(cells).copy()
    for view in cells:
        np.maximum(y, view, out=y)
    return y


def max_pool_at(v: Array, x: Array, window: Window) -> Array:
    """Return `v` where `x` has the first largest value of each window."""
    out = np.zeros((len(x), *window.positions(x.shape[1:3]), x.shape[3]), v.dtype)
    for hit, view in _hits(x, v, window):
        out += view * hit
    return out


def max_unpool(g: Array, x: Array, window: Window) -> Array:
    """Add `g` where `x` has the first largest value of each window."""
    dx = np.zeros(x.shape, g.dtype)
    apart = (
        window.stride[0] >= window.kernel[0] and window.stride[1] >= window.kernel[1]
    )
    for hit, view in _hits(x, dx, window):
        if apart:  # every cell belongs to one window at most
            np.multiply(g, hit, out=view)
        else:
            view += g * hit
    return dx


def _hits(x: Array, other: Array, window: Window) -> Iterator[tuple[Array, Array]]:
    """Yield (is the first largest, the same cells of `other`) per window cell.

    The first array is written anew for each cell.
    """
    places = window.positions(x.shape[1:3])
    y = max_pool(x, window)
    free, hit = np.ones(y.shape, bool), np.empty(y.shape, bool)
    for (_, _, cells), (_, _, view) in zip(
        taps(x, window, places), taps(other, window, places), strict=True
    ):
        np.equal(cells, y, out=hit)
        hit &= free
        free ^= hit
        yield hit, view


def sum_pool(x: Array, window: Window) -> Array:
    """Return the sum of each window of x (n, h, w, c): (n, oh, ow, c)."""
    places = window.positions(x.shape[1:3])
    out = np.zeros((len(x), *places, x.shape[3]), x.dtype)
    for _, _, view in taps(x, window, places):
        out += view
    return out


def sum_unpool(g: Array, size: Pair, window: Window) -> Array:
    """Add g (n, oh, ow, c) to every cell of its window: (n, *size, c)."""
    dx = np.zeros((len(g), *size, g.shape[3]), g.dtype)
    for _, _, view in taps(dx, window, g.shape[1:3]):
        view += g
    return dx
