"""Convolution of any kind as matrix products over copied windows.

Every window of a block of rows is copied to one row of a matrix (im2col), so that the
work is one product per block and group, and a block stays in the cache. A window of
1 x 1 needs no copy. With few channels the runs of a window are too short to copy: then
the matrix is laid out the other way, one cell of all windows after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy.scratch import few_buffers, take
from sillar.backends.numpy.strips import add, blocks, taps, window_strip, windows
from sillar.backends.numpy.turned import conv_back

BLOCK = 1 << 18  # elements of copied windows at a time: 1 MiB in float32
SHORT = 16  # elements of a window's row from which on it is copied as a run


def conv(
    x: Array, w: Array, window: Window, groups: int, y: Array, bias: Array = None
) -> None:
    """Write the correlation of x with w into y (n, oh, ow, k)."""
    kernels = w.reshape(-1, w.shape[3])
    for block in blocks(x, y, window, BLOCK):
        for columns, outputs in _columns(x, y, window, groups, block):
            rows = y[block].reshape(-1, y.shape[3])
            np.matmul(columns, kernels[:, outputs], out=rows[:, outputs])
        if bias is not None:
            y[block] += bias


def conv_weight(x: Array, g: Array, window: Window, groups: int, dw: Array) -> None:
    """Write the gradient of `conv` for its weight into dw."""
    dw[...] = 0
    total = dw.reshape(-1, dw.shape[3])
    for block in blocks(x, g, window, BLOCK):
        for columns, outputs in _columns(x, g, window, groups, block):
            rows = g[block].reshape(-1, g.shape[3])[:, outputs]
            shape = (len(total), rows.shape[1])
            product = take("product", shape, dw.dtype)
            total[:, outputs] += np.matmul(columns.T, rows, out=product)


def conv_input(g: Array, w: Array, window: Window, groups: int, dx: Array) -> None:
    """Write the gradient of `conv` for its input into dx, from g (n, oh, ow, k)."""
    if _adding_is_less(g, window, dx):
        _add_back(g, w, window, groups, dx)
        return
    kh, kw, per_group, k = w.shape
    split = w.reshape(kh, kw, per_group, groups, k // groups)
    kernels = split.transpose(0, 1, 4, 3, 2).reshape(kh, kw, k // groups, -1)
    conv_back(conv, g, kernels, window, groups, dx)


def _columns(
    x: Array, y: Array, window: Window, groups: int, block: tuple[slice, slice]
) -> Iterator[tuple[Any, slice]]:
    """Yield (windows as rows of a matrix, output channels) of a block by group."""
    images, rows = block
    places = rows.stop - rows.start, y.shape[2]
    strip = window_strip(x[images], window, rows.start, places)
    per_group, outputs = x.shape[3] // groups, y.shape[3] // groups
    for k in range(groups):
        part = strip[..., k * per_group : (k + 1) * per_group]
        yield _matrix(part, window, places), slice(k * outputs, (k + 1) * outputs)


def _matrix(strip: Array, window: Window, places: Pair) -> Any:
    """Return every window of a strip as a row: (n * oh * ow, kh * kw * c)."""
    (kh, kw), n, c = window.kernel, len(strip), strip.shape[3]
    view = windows(strip, window, places).transpose(0, 1, 2, 4, 5, 3)
    shape = (n * places[0] * places[1], kh * kw * c)
    if kh == kw == 1:
        return view.reshape(shape)
    if kw * c < SHORT:
        cells = take("columns", (kh, kw, c, n, *places), strip.dtype)
        np.copyto(cells, view.transpose(3, 4, 5, 0, 1, 2))
        return cells.reshape(shape[1], shape[0]).T
    columns = take("columns", view.shape, strip.dtype)
    np.copyto(columns, view)
    return columns.reshape(shape)


def _adding_is_less(g: Array, window: Window, dx: Array) -> bool:
    """Say whether to add what places give, rather than copy what cells are given."""
    cells = dx.shape[1] * dx.shape[2] * g.shape[3]
    places = g.shape[1] * g.shape[2] * window.stride[0] * window.stride[1]
    return window.kernel != (1, 1) and cells > 1.1 * places * dx.shape[3]


def _add_back(g: Array, w: Array, window: Window, groups: int, dx: Array) -> None:
    """Write the gradient of `conv` for its input into dx, one tap after the other."""
    dx[...] = 0
    per_group, outputs = w.shape[2], w.shape[3] // groups
    kernels = np.ascontiguousarray(w.reshape(-1, *w.shape[2:]).transpose(0, 2, 1))
    (top, _), (left, _) = window.padding
    with few_buffers():
        for images, rows in blocks(dx, g, window, BLOCK):
            part = g[images, rows]
            size = window.cover(part.shape[1:3])
            strip = take("strip", (len(part), *size, dx.shape[3]), dx.dtype)
            strip[...] = 0
            for i in range(groups):
                inputs = slice(i * per_group, (i + 1) * per_group)
                own = slice(i * outputs, (i + 1) * outputs)
                _add_taps(part[..., own], kernels[:, own], window, strip[..., inputs])
            add(strip, dx[images], rows.start * window.stride[0] - top, -left)


def _add_taps(g: Array, kernels: Array, window: Window, strip: Array) -> None:
    """Add g (n, oh, ow, k) times kernels (kh * kw, k, c) to a strip of dx, by taps."""
    rows = g.reshape(-1, g.shape[3])
    shape = (len(kernels), len(rows), kernels.shape[2])
    cells = np.matmul(rows, kernels, out=take("columns", shape, strip.dtype))
    each = cells.reshape(*window.kernel, *g.shape[:3], -1)
    for i, j, met in taps(strip, window, g.shape[1:3]):
        np.add(met, each[i, j], out=met)
