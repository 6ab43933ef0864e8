"""Parts of images with a margin of zeros: copied out of a batch, and back into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy import threads
from sillar.backends.numpy.scratch import take


def load(strip: Array, images: Array, top: int, left: int) -> None:
    """Copy what is at (top, left) of the images into the strip, zeros where nothing is.

    Both are (n, h, w, c), in any order of memory; top and left may be negative.
    """
    (first, last), (start, end) = _inside(strip, images, top, left)
    strip[:, :first], strip[:, last:] = 0, 0
    strip[:, first:last, :start], strip[:, first:last, end:] = 0, 0
    part = images[:, top + first : top + last, left + start : left + end]
    strip[:, first:last, start:end] = part


def store(strip: Array, images: Array, top: int, left: int, more: Array = None) -> None:
    """Copy the strip to (top, left) of the images, but for what is outside.

    What there is `more` is added to each cell, a number for each channel.
    """
    (first, last), (start, end) = _inside(strip, images, top, left)
    part = images[:, top + first : top + last, left + start : left + end]
    if more is None:
        part[...] = strip[:, first:last, start:end]
    else:
        np.add(strip[:, first:last, start:end], more, out=part)


def add(strip: Array, images: Array, top: int, left: int) -> None:
    """Add the strip to what is at (top, left) of the images."""
    (first, last), (start, end) = _inside(strip, images, top, left)
    part = images[:, top + first : top + last, left + start : left + end]
    np.add(part, strip[:, first:last, start:end], out=part)


def _inside(strip: Array, images: Array, top: int, left: int) -> tuple[Pair, Pair]:
    """Return the rows and columns of a strip at (top, left) that are in the images."""
    rows = _overlap(strip.shape[1], images.shape[1], top)
    return rows, _overlap(strip.shape[2], images.shape[2], left)


def _overlap(size: int, whole: int, at: int) -> Pair:
    first = min(size, max(0, -at))
    return first, max(first, min(size, whole - at))


def blocks(
    x: Array, y: Array, window: Window, limit: int
) -> Iterator[tuple[slice, slice]]:
    """Yield (images, rows of y) whose windows, copied, fill about `limit` elements."""
    n, oh, ow, _ = y.shape
    size = window.kernel[0] * window.kernel[1] * x.shape[3]
    places = max(1, threads.block(limit) // max(1, size))
    images = max(1, places // max(1, oh * ow))
    rows = min(oh, max(1, places // max(1, ow)))
    for first in range(0, n, images):
        for row in range(0, oh, rows):
            yield slice(first, first + images), slice(row, min(oh, row + rows))


def window_strip(x: Array, window: Window, row: int, places: Pair) -> Any:
    """Return the part of images, margins included, that windows from `row` on see."""
    (top, _), (left, _) = window.padding
    height, width = window.cover(places)
    first = row * window.stride[0] - top
    inside = first + height <= x.shape[1] and width <= x.shape[2]
    if first >= 0 and left == 0 and inside:
        return x[:, first : first + height, :width]
    strip = take("strip", (len(x), height, width, x.shape[3]), x.dtype)
    load(strip, x, first, -left)
    return strip


def windows(strip: Array, window: Window, places: Pair) -> Any:
    """Return a view of what every window of a strip sees: (n, oh, ow, c, kh, kw)."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    b_n, b_h, b_w, b_c = strip.strides
    return as_strided(
        strip,
        (len(strip), *places, strip.shape[3], kh, kw),
        (b_n, b_h * sh, b_w * sw, b_c, b_h * dh, b_w * dw),
        writeable=False,
    )


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
