"""The gradient of a convolution for its input, as convolutions of the gradient.

An input cell gets what every place of the window that meets it has, by the tap that
meets it: a convolution with the taps in reverse. With a stride, cells whose rows and
columns leave different remainders meet different taps, so it is one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import gcd
from typing import NamedTuple

import numpy as np

from sillar.backends.base import Array, Window


def conv_back(
    conv: Callable[..., None],
    g: Array,
    kernels: Array,
    window: Window,
    groups: int,
    dx: Array,
) -> None:
    """Write the gradient for the input into dx, with kernels (kh, kw, k / groups, c).

    `conv` (x, w, window, groups, y) writes a convolution of stride 1.
    """
    for rows in _phases(window, 0, dx.shape[1]):
        for columns in _phases(window, 1, dx.shape[2]):
            part = dx[:, rows.cells, columns.cells]
            taps = np.ascontiguousarray(kernels[rows.taps, columns.taps])
            if 0 in taps.shape or 0 in part.shape:
                part[...] = 0
                continue
            inner = Window(
                taps.shape[:2],
                padding=((rows.padding, 0), (columns.padding, 0)),
                dilation=(rows.dilation, columns.dilation),
            )
            whole = part.flags.c_contiguous
            y = part if whole else np.empty(part.shape, dx.dtype)
            conv(g, taps, inner, groups, y)
            if not whole:
                part[...] = y


class _Phase(NamedTuple):
    """Cells of the input that meet the same taps: those with one remainder."""

    cells: slice
    taps: slice
    dilation: int
    padding: int


def _phases(window: Window, axis: int, size: int) -> Iterator[_Phase]:
    """Yield the phases along an axis: input cell s a + p - top meets tap i at place o
    if s o + d i = s a + p, so for every s / gcd(s, d)-th tap."""
    s, d, count = window.stride[axis], window.dilation[axis], window.kernel[axis]
    top, common = window.padding[axis][0], gcd(s, d)
    for p in range(s):
        a = -((p - top) // s)  # the first cell that is not in the margin
        cells = slice(s * a + p - top, size, s)
        met = [i for i in range(count) if (d * i - p) % s == 0]
        if not met:
            yield _Phase(cells, slice(0, 0), 1, 0)
            continue
        before = (d * met[-1] - p) // s  # places from the first of a window to a
        last = met[-1]
        step = s // common
        stop = met[0] - step
        taps = slice(last, stop if stop >= 0 else None, -step)
        yield _Phase(cells, taps, d // common, before - a)
