"""Convolution and its two gradients as matrix products over copied windows.

Every window of a few images is copied to one row (im2col), so that the work is one
matrix product per block, and a block is small enough for its rows to stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sillar.backends.base import Array, Pair, Window

BLOCK = 1 << 18  # elements of copied windows at a time: 1 MiB in float32


def conv(x: Array, w: Array, window: Window, groups: int = 1) -> Array:
    """Correlate x (n, h, w, c) with w (kh, kw, c / groups, o): (n, oh, ow, o)."""
    n, (oh, ow), o = len(x), window.positions(x.shape[1:3]), w.shape[-1]
    y = np.empty((n, oh, ow, o), np.result_type(x, w))
    padded = _padded(x, window)
    for part, channels, outputs in _work(padded, w, window, groups):
        columns = _columns(padded[part, :, :, channels], window, (oh, ow))
        product = columns @ w[..., outputs].reshape(columns.shape[1], -1)
        y[part, :, :, outputs] = product.reshape(-1, oh, ow, product.shape[1])
    return y


def conv_weight(x: Array, g: Array, window: Window, groups: int = 1) -> Array:
    """Return the gradient of `conv` for its weight, from g (n, oh, ow, o)."""
    shape = (*window.kernel, x.shape[-1] // groups, g.shape[-1])
    dw = np.zeros(shape, np.result_type(x, g))
    padded = _padded(x, window)
    for part, channels, outputs in _work(padded, dw, window, groups):
        columns = _columns(padded[part, :, :, channels], window, g.shape[1:3])
        rows = g[part, :, :, outputs].reshape(len(columns), -1)
        dw[..., outputs] += (columns.T @ rows).reshape(*shape[:3], -1)
    return dw


def conv_input(
    g: Array, w: Array, size: Pair, window: Window, groups: int = 1
) -> Array:
    """Return the gradient of `conv` for its input of `size`, from g (n, oh, ow, o)."""
    n, oh, ow, _ = g.shape
    (top, bottom), (left, right) = window.padding
    h, width, per_group = size[0] + top + bottom, size[1] + left + right, w.shape[2]
    dx = np.zeros((n, h, width, per_group * groups), np.result_type(g, w))
    for part, channels, outputs in _work(dx, w, window, groups):
        rows = g[part, :, :, outputs].reshape(-1, w[..., outputs].shape[-1])
        columns = rows @ w[..., outputs].reshape(-1, rows.shape[1]).T
        columns = columns.reshape(-1, oh, ow, *window.kernel, per_group)
        for i, j, cells in taps(dx[part, :, :, channels], window, (oh, ow)):
            cells += columns[:, :, :, i, j]
    return dx[:, top : h - bottom, left : width - right]


def taps(
    images: Array, window: Window, places: Pair
) -> Iterator[tuple[int, int, Array]]:
    """Yield (i, j, view): the cells that kernel cell (i, j) meets at every place."""
    (sh, sw), (dh, dw) = window.stride, window.dilation
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            rows = slice(i * dh, i * dh + (places[0] - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (places[1] - 1) * sw + 1, sw)
            yield i, j, images[:, rows, columns]


def _padded(x: Array, window: Window) -> Array:
    (top, bottom), (left, right) = window.padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    out = np.zeros((n, h + top + bottom, w + left + right, c), x.dtype)
    out[:, top : top + h, left : left + w] = x
    return out


def _work(
    padded: Array, w: Array, window: Window, groups: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Yield (images, input channels, output channels) of one matrix product each."""
    per_group, outputs = w.shape[2], w.shape[3] // groups
    places = (padded.shape[1] - window.span(0)) // window.stride[0] + 1
    places *= (padded.shape[2] - window.span(1)) // window.stride[1] + 1
    per_image = places * window.kernel[0] * window.kernel[1] * per_group
    step = max(1, BLOCK // max(1, per_image))
    for first in range(0, len(padded), step):
        for k in range(groups):
            yield (
                slice(first, first + step),
                slice(k * per_group, (k + 1) * per_group),
                slice(k * outputs, (k + 1) * outputs),
            )


def _columns(x: Array, window: Window, places: Pair) -> Any:
    """Return every window of padded images x as one row: (n * oh * ow, kh * kw * c)."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    n, c = len(x), x.shape[-1]
    b_n, b_h, b_w, b_c = x.strides
    view = as_strided(
        x,
        (n, *places, kh, kw, c),
        (b_n, b_h * sh, b_w * sw, b_h * dh, b_w * dw, b_c),
        writeable=False,
    )
    return view.reshape(n * places[0] * places[1], kh * kw * c)
