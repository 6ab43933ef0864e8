"""Pooling as a few operations over whole rows, in blocks that stay in the cache.

The largest of a window is the largest along its rows first, then along its columns.
For gradients the cells of all windows are copied apart first, one array for each cell:
NumPy compares and multiplies arrays that are in order several times faster than views.
Padding and dilation are not used here: a layer pads before it pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy.scratch import few_buffers, take
from sillar.backends.numpy.strips import blocks, taps

BLOCK = 1 << 17  # elements of windows at a time: 0.5 MiB in float32


def max_pool(x: Array, window: Window, out: Array = None) -> Array:
    """Return the largest value of each window of x (n, h, w, c): (n, oh, ow, c)."""
    y = _room(x, (len(x), *window.positions(x.shape[1:3]), x.shape[3]), out)

    def work(strip: Array, part: Array) -> None:
        (kh, kw), (sh, sw), (_, oh, ow, _) = window.kernel, window.stride, part.shape
        shape = (len(part), oh, *strip.shape[2:])
        lines = take("lines", shape, x.dtype)
        _largest((strip[:, i : i + (oh - 1) * sh + 1 : sh] for i in range(kh)), lines)
        ends = (j + (ow - 1) * sw + 1 for j in range(kw))
        _largest((lines[:, :, j:end:sw] for j, end in enumerate(ends)), part)

    _in_blocks(work, window, x, y)
    return y


def _largest(views: Iterator[Array], out: Array) -> None:
    first = next(views)
    second = next(views, None)
    if second is None:
        np.copyto(out, first)
        return
    np.maximum(first, second, out=out)
    for view in views:
        np.maximum(out, view, out=out)


def max_pool_at(v: Array, x: Array, window: Window) -> Array:
    """Return `v` where `x` has the first largest value of each window."""
    y = np.zeros((len(x), *window.positions(x.shape[1:3]), x.shape[3]), v.dtype)

    def work(strip: Array, values: Array, part: Array) -> None:
        places = part.shape[1:3]
        hits = _hits(strip, window, places)
        for hit, (_, _, cells) in zip(hits, taps(values, window, places), strict=True):
            part += cells * hit

    _in_blocks(work, window, x, v, y)
    return y


def max_unpool(g: Array, x: Array, window: Window, out: Array = None) -> Array:
    """Add `g` where `x` has the first largest value of each window."""
    dx = _room(g, x.shape, out)
    apart = _prepare(dx, g, window)

    def work(strip: Array, target: Array, part: Array) -> None:
        places = part.shape[1:3]
        given = take("given", part.shape, g.dtype)
        hits = _hits(strip, window, places)
        for hit, (_, _, cells) in zip(hits, taps(target, window, places), strict=True):
            _give(part, hit, given, cells, apart)

    _in_blocks(work, window, x, dx, g)
    return dx


def _prepare(dx: Array, g: Array, window: Window) -> bool:
    """Write zeros where needed; say whether each cell belongs to one window at most."""
    apart = all(s >= k for s, k in zip(window.stride, window.kernel, strict=True))
    if not apart or g.size * window.kernel[0] * window.kernel[1] < dx.size:
        dx[...] = 0
    return apart


def _give(g: Array, hit: Array, given: Array, cells: Array, apart: bool) -> None:
    """Add `g` to the cells that are hit; `given` is memory for that."""
    np.copyto(given, hit)  # NumPy multiplies two types in twice the time
    np.multiply(g, given, out=given)
    if apart:
        np.copyto(cells, given)
    else:
        np.add(cells, given, out=cells)


def max_places(x: Array, window: Window, out: Array = None) -> Array:
    """Return which cell of each window is the first largest, in one byte.

    Where none is, in a window with a NaN, it is the number of cells.
    """
    shape = (len(x), *window.positions(x.shape[1:3]), x.shape[3])
    y = np.empty(shape, np.uint8) if out is None else out
    count = window.kernel[0] * window.kernel[1]

    def work(strip: Array, part: Array) -> None:
        back = take("back", part.shape, np.uint8)
        part[...] = count
        for k, hit in enumerate(_hits(strip, window, part.shape[1:3])):
            np.multiply(hit.view(np.uint8), np.uint8(count - k), out=back)
            np.subtract(part, back, out=part)

    _in_blocks(work, window, x, y)
    return y


def max_unplace(
    g: Array, places: Array, size: Pair, window: Window, out: Array = None
) -> Array:
    """Add `g` at the cells that `max_places` found in images of `size` (h, w)."""
    dx = _room(g, (len(g), *size, g.shape[3]), out)
    apart = _prepare(dx, g, window)

    def work(target: Array, given: Array, part: Array) -> None:
        hit, own = take("hit", part.shape, bool), take("given", part.shape, g.dtype)
        for k, (_, _, cells) in enumerate(taps(target, window, part.shape[1:3])):
            np.equal(part, np.uint8(k), out=hit)
            _give(given, hit, own, cells, apart)

    each = max(1, places[:1].size * window.kernel[0] * window.kernel[1])
    step = max(1, BLOCK // each)

    with few_buffers():
        for i in range(0, len(places), step):
            images = slice(i, i + step)
            work(dx[images], g[images], places[images])
    return dx


def _hits(x: Array, window: Window, places: Pair) -> Iterator[Array]:
    """Yield for each cell of a window where it is the first largest: (n, oh, ow, c).

    The array is written anew for each cell.
    """
    shape = (len(x), *places, x.shape[3])
    cells = take("cells", (window.kernel[0] * window.kernel[1], *shape), x.dtype)
    for copy, (_, _, view) in zip(cells, taps(x, window, places), strict=True):
        np.copyto(copy, view)
    y = take("largest", shape, x.dtype)
    _largest(iter(cells), y)
    hit, free = take("hit", shape, bool), take("free", shape, bool)
    free[...] = True
    for cell in cells:
        np.equal(cell, y, out=hit)
        np.logical_and(hit, free, out=hit)
        np.logical_xor(free, hit, out=free)
        yield hit


def sum_pool(x: Array, window: Window, out: Array = None) -> Array:
    """Return the sum of each window of x (n, h, w, c): (n, oh, ow, c)."""
    y = _room(x, (len(x), *window.positions(x.shape[1:3]), x.shape[3]), out)

    def work(strip: Array, part: Array) -> None:
        part[...] = 0
        for _, _, cells in taps(strip, window, part.shape[1:3]):
            np.add(part, cells, out=part)

    _in_blocks(work, window, x, y)
    return y


def sum_unpool(g: Array, size: Pair, window: Window, out: Array = None) -> Array:
    """Add g (n, oh, ow, c) to every cell of its window: (n, *size, c)."""
    dx = _room(g, (len(g), *size, g.shape[3]), out)
    dx[...] = 0

    def work(target: Array, part: Array) -> None:
        for _, _, cells in taps(target, window, part.shape[1:3]):
            np.add(cells, part, out=cells)

    _in_blocks(work, window, dx, g)
    return dx


def _room(like: Array, shape: tuple[int, ...], out: Array) -> Any:
    return np.empty(shape, like.dtype) if out is None else out


def _in_blocks(work: Callable[..., None], window: Window, *arrays: Array) -> None:
    """Call work(*parts) on blocks of images; the last array is that of the places."""
    *inputs, places = arrays
    with few_buffers():
        for images, rows in blocks(places, places, window, BLOCK):
            seen = slice(
                rows.start * window.stride[0],
                (rows.stop - 1) * window.stride[0] + window.kernel[0],
            )
            work(*(array[images, seen] for array in inputs), places[images, rows])
