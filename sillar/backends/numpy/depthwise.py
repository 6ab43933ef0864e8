"""Convolution of each channel alone: shifted images, multiplied and added.

Matrix products of one channel would be too small. In a block of rows that stays in the
cache, each cell of the kernels is one multiplication and one addition of whole rows.
A channel with several kernels is repeated for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy.scratch import few_buffers, take
from sillar.backends.numpy.strips import blocks, taps, window_strip
from sillar.backends.numpy.turned import conv_back

BLOCK = 1 << 15  # elements of a product at a time: 128 KiB in float32


def conv(x: Array, w: Array, window: Window, groups: int, y: Array) -> None:
    """Write the correlation of x (n, h, w, c) with w (kh, kw, 1, k) into y."""
    with few_buffers():
        for images, rows in _blocks(x, y):
            part = y[images, rows]
            strip = _repeated(x[images], y, window, rows)
            product = take("product", part.shape, y.dtype)
            for i, j, cells in taps(strip, window, part.shape[1:3]):
                target = product if i or j else part
                np.multiply(cells, _along(w[i, j, 0], part.shape[2]), out=target)
                if i or j:
                    np.add(part, product, out=part)


def conv_weight(x: Array, g: Array, window: Window, groups: int, dw: Array) -> None:
    """Write the gradient of `conv` for its weight into dw (kh, kw, 1, k)."""
    _, _, width, k = g.shape
    total = np.zeros((*window.kernel, width * k), dw.dtype)
    with few_buffers():
        for images, rows in _blocks(x, g):
            part = g[images, rows]
            strip = _repeated(x[images], g, window, rows)
            product = take("product", part.shape, dw.dtype)
            ones = np.ones(product.size // (width * k), dw.dtype)
            for i, j, cells in taps(strip, window, part.shape[1:3]):
                np.multiply(cells, part, out=product)
                total[i, j] += ones @ product.reshape(len(ones), width * k)
    np.sum(total.reshape(*window.kernel, width, k), axis=2, out=dw[:, :, 0])


def conv_input(g: Array, w: Array, window: Window, groups: int, dx: Array) -> None:
    """Write the gradient of `conv` for its input into dx, from g (n, oh, ow, k)."""
    c, k = dx.shape[3], w.shape[3]
    if c == k:
        conv_back(conv, g, w, window, groups, dx)
        return
    each = np.empty((*dx.shape[:3], k), dx.dtype)
    conv_back(conv, g, w, window, k, each)
    np.sum(each.reshape(*dx.shape, k // c), axis=4, out=dx)


def _blocks(x: Array, y: Array) -> Any:
    return blocks(y, y, Window((1, 1)), BLOCK)


def _repeated(x: Array, y: Array, window: Window, rows: slice) -> Any:
    """Return the rows that windows see, each channel as often as it has kernels."""
    strip = window_strip(x, window, rows.start, _places(y, rows))
    times = y.shape[3] // x.shape[3]
    return strip if times == 1 else np.repeat(strip, times, axis=3)


def _places(y: Array, rows: slice) -> Pair:
    return rows.stop - rows.start, y.shape[2]


def _along(kernel: Array, width: int) -> Any:
    """Return the kernels of one cell for a whole row, so that loops run along rows."""
    return np.broadcast_to(kernel, (width, len(kernel))).copy()
