"""Convolution of each channel alone: shifted images, multiplied and added.

Matrix products of one channel would be too small. `einsum` multiplies and adds in one
pass, along whole rows of a block that stays in the cache. A channel with several
kernels is repeated for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sillar.backends.base import Array, Window
from sillar.backends.numpy.strips import blocks, window_strip, windows
from sillar.backends.numpy.turned import conv_back

BLOCK = 1 << 17  # elements of the output at a time: 512 KiB in float32


def conv(
    x: Array, w: Array, window: Window, groups: int, y: Array, bias: Array = None
) -> None:
    """Write the correlation of x (n, h, w, c) with w (kh, kw, 1, k) into y."""
    kernels = np.repeat(w, y.shape[2], axis=2)  # a whole row: the loops run along it
    for images, rows in _blocks(y):
        part = y[images, rows]
        seen = _windows(x[images], part, window, rows.start)
        row = seen.shape[4:]
        along = kernels.reshape(*window.kernel, *row)
        out = part.reshape(*part.shape[:2], *row)
        np.einsum("nhij...,ij...->nh...", seen, along, out=out)
        if bias is not None:
            part += bias


def conv_weight(x: Array, g: Array, window: Window, groups: int, dw: Array) -> None:
    """Write the gradient of `conv` for its weight into dw (kh, kw, 1, k)."""
    total = np.zeros((*window.kernel, *g.shape[2:]), dw.dtype)
    product = np.empty_like(total)
    for images, rows in _blocks(g):
        part = g[images, rows]
        seen = _windows(x[images], part, window, rows.start)
        row = seen.shape[4:]
        along = part.reshape(*part.shape[:2], *row)
        out = product.reshape(*window.kernel, *row)
        np.einsum("nhij...,nh...->ij...", seen, along, out=out)
        total += product
    np.sum(total, axis=2, out=dw[:, :, 0])


def conv_input(g: Array, w: Array, window: Window, groups: int, dx: Array) -> None:
    """Write the gradient of `conv` for its input into dx, from g (n, oh, ow, k)."""
    c, k = dx.shape[3], w.shape[3]
    if c == k:
        conv_back(conv, g, w, window, groups, dx)
        return
    each = np.empty((*dx.shape[:3], k), dx.dtype)
    conv_back(conv, g, w, window, k, each)
    np.sum(each.reshape(*dx.shape, k // c), axis=4, out=dx)


def _blocks(y: Array) -> Iterator[tuple[slice, slice]]:
    return blocks(y, y, Window((1, 1)), BLOCK)


def _windows(x: Array, y: Array, window: Window, row: int) -> Any:
    """Return what each tap of windows from `row` on meets, the last two axes as one
    where they are: (n, oh, kh, kw, ow * k) or (n, oh, kh, kw, ow, k)."""
    strip = window_strip(x, window, row, y.shape[1:3])
    times = y.shape[3] // x.shape[3]
    if times > 1:
        strip = np.repeat(strip, times, axis=3)
    seen = windows(strip, window, y.shape[1:3]).transpose(0, 1, 4, 5, 2, 3)
    return seen.reshape(*seen.shape[:4], -1) if window.stride[1] == 1 else seen
